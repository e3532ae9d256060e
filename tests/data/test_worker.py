"""Loader processes and signals: only the main process ends them, and it can."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from patchclip.contracts import Batch
from patchclip.data._worker import leave_signals_to_main
from patchclip.data.stream import PairStream, StreamOptions
from patchclip.data.transforms import train_transform
from tests.data._make import Bytes, ListSource

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning", "ignore:This DataLoader will create"
)


def batches(source: ListSource, workers: int) -> Iterator[Batch]:
    options = StreamOptions(batch_size=2, workers=workers)
    return PairStream(source, train_transform(8, "none"), Bytes(), options).batches()


def send(name: signal.Signals, processes: list[multiprocessing.Process]) -> None:
    """Sends a signal from a third process: the sender of one to a whole group is not the workers' parent."""
    pids = [process.pid for process in processes]
    code = f"import os; [os.kill(pid, {int(name)}) for pid in {pids}]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_workers_outlive_a_signal_from_outside(name: signal.Signals) -> None:
    expected = [batch.keys for batch in islice(batches(ListSource([("a",)] * 40), 0), 16)]
    made = batches(ListSource([("a",)] * 40), 2)
    found = [next(made).keys]
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for _ in range(3):
        send(name, workers)
        time.sleep(0.05)
        found += [batch.keys for batch in islice(made, 5)]
    assert found == expected
    assert all(worker.is_alive() for worker in workers)
    start = time.monotonic()
    del made
    for worker in workers:
        worker.join(5)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert time.monotonic() - start < 5


def _stuck(ready: Any) -> None:
    """A worker that waits for a pair that never comes."""
    leave_signals_to_main(0)
    ready.set()
    time.sleep(60)


def test_the_main_process_ends_a_worker_that_is_stuck() -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_stuck, args=(ready,), daemon=True)
    worker.start()
    assert ready.wait(10)
    send(signal.SIGTERM, [worker])
    worker.join(0.3)
    assert worker.is_alive()
    worker.terminate()
    worker.join(5)
    assert worker.exitcode == 0


def test_a_system_without_sigwaitinfo_leaves_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[tuple[int, int]] = []
    monkeypatch.delattr(signal, "sigwaitinfo")
    monkeypatch.setattr(os, "setpgid", lambda *group: left.append(group))
    before = signal.getsignal(signal.SIGINT)
    try:
        leave_signals_to_main(0)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert left == [(0, 0)]
