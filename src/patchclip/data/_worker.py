"""Keeps loader processes at work while the main process answers a signal."""

import os
import signal
import threading


def leave_signals_to_main(worker: int) -> None:
    """Makes a loader process ignore SIGINT, and SIGTERM unless it comes from the process that started it.

    Ctrl-C and schedulers signal the whole group. The main process then finishes its step and saves, for which
    it may need another batch; it ends its workers itself, with a word through their queues or, if one is
    stuck, with `Process.terminate()`, a SIGTERM of its own. Where a system cannot tell who sent a signal (no
    `sigwaitinfo`), the process leaves the group, so that signals to the group do not reach it.

    Args:
        worker: Number of the process, which `torch.utils.data.DataLoader` passes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):
        os.setpgid(0, 0)
        return
    signal.signal(signal.SIGTERM, lambda *_: None)  # for threads that do not block it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_await_end, name="patchclip-sigterm", daemon=True).start()


def _await_end() -> None:
    """Ends this process as soon as its parent asks for it."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        continue
    os._exit(0)
