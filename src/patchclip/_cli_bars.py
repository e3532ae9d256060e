"""Bars of progress on stderr. What loads tqdm is imported when a bar is shown."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patchclip.engine.train import StepInfo

log = logging.getLogger(__name__)

LOGGED = 100
"""Images that are worth a line of a log."""


@contextmanager
def progress_bar() -> Iterator[Callable[["StepInfo"], None]]:
    """A bar on stderr from the first step on, with loss, images/s and time left."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    style = "{desc}{percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt}{postfix}"
    every = 0.5 if sys.stderr.isatty() else 10.0
    with ExitStack() as stack:
        bars: list[tqdm] = []

        def on_step(info: "StepInfo") -> None:
            if not bars:
                stack.enter_context(logging_redirect_tqdm())
                silent = not is_main_process()
                made = tqdm(total=info.total_steps, desc="train ", bar_format=style, disable=silent)
                made.mininterval = every
                bars.append(stack.enter_context(made))
            bar, left = bars[0], tqdm.format_interval(info.seconds_left)
            text = f"loss {info.loss:.3f}, {info.images_per_s:.0f} images/s, {left} left"
            bar.set_postfix_str(text, refresh=False)
            bar.update(info.step - bar.n)

        yield on_step


@contextmanager
def evaluation_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for what is being encoded, with images/s; a line for each in a log file."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    shown = sys.stderr.isatty()
    started = time.perf_counter()
    with tqdm(desc="eval", unit=" images", leave=False, dynamic_ncols=True, disable=not shown) as bar:
        known = ""

        def on_progress(name: str, done: int, total: int) -> None:
            nonlocal known, started
            if name != known:
                known, started = name, time.perf_counter() if known else started
                bar.reset(total)
                bar.set_description_str(name, refresh=False)
            bar.update(done - bar.n)
            if done == total and not shown and total >= LOGGED:
                rate = total / max(1e-9, time.perf_counter() - started)
                log.info("%s: %d images, %.0f images/s", name, total, rate)

        with logging_redirect_tqdm():
            yield on_progress


def is_main_process() -> bool:
    """Whether this process is the one that speaks: the first of a distributed run, or the only one."""
    return os.environ.get("RANK", "0") == "0"
