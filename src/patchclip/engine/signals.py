"""Ctrl-C and SIGTERM ask the loop to save and stop; a second one stops at once."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

log = logging.getLogger(__name__)


@dataclass
class Stop:
    """Set by a signal; `exit_code` is 128 + its number."""

    asked: bool = False
    exit_code: int = 130


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turns the first Ctrl-C or SIGTERM into `asked`; the second acts as usual."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked, stop.exit_code = True, 128 + number
        for each, handler in earlier.items():
            signal.signal(each, handler)
        log.warning("stopping: this step is finished and saved first; a second signal stops at once")

    for number in earlier:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
