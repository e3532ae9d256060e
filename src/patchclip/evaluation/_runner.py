"""Runs the suite that fits each data set found under a root, and writes one JSON file a data set."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from patchclip.contracts import Encoder
from patchclip.data.benchmarks import Classification, Retrieval, find_benchmarks, load_benchmark
from patchclip.errors import ConfigError
from patchclip.evaluation._result import Result
from patchclip.evaluation.retrieval import retrieval
from patchclip.evaluation.zeroshot import zeroshot

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


def evaluate(
    encoder: Encoder,
    root: str | Path = "samples",
    datasets: Sequence[str] | None = None,
    *,
    batch_size: int = 128,
    output: str | Path | None = None,
    on_progress: Progress | None = None,
) -> list[Result]:
    """Evaluates an encoder zero-shot: classification sets by class names, retrieval sets by captions.

    Names and layouts of all sets are checked before the first image is encoded; with `output`, every
    result is on disk as soon as it is known.

    Args:
        encoder: the model, for instance from `patchclip.load`.
        root: folder of data sets in clip_benchmark's webdataset layout; "samples" is the shipped one.
        datasets: names under the root; None takes all that are found, an empty list none.
        batch_size: images or texts a forward pass, at least 1.
        output: folder for <dataset>.json, in clip_benchmark's schema with extras; None writes nothing.
        on_progress: called with (data set, images done, images in all).

    Returns:
        One result a data set, in the order asked for.

    Raises:
        ConfigError: batch_size is below 1.
        DataError: the root or a data set is missing or cannot be used.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1: images or texts a forward pass")
    results = []
    for benchmark in open_benchmarks(root, datasets):
        started = time.perf_counter()
        report = None if on_progress is None else _named(on_progress, benchmark.name)
        if isinstance(benchmark, Classification):
            result = zeroshot(encoder, benchmark, batch_size, report)
        else:
            result = retrieval(encoder, benchmark, batch_size, report)
        result = replace(result, seconds=time.perf_counter() - started)
        if result.bad:
            first = result.bad[0]
            logger.warning(
                "%s: %d images could not be read and were left out; first %s: %s",
                *(result.dataset, len(result.bad), first.key, first.reason),
            )
        if output is not None:
            result.save(Path(output))
        results.append(result)
    return results


def open_benchmarks(
    root: str | Path, datasets: Sequence[str] | None = None
) -> list[Classification | Retrieval]:
    """The data sets to evaluate, opened and checked; none of their images is read.

    Raises:
        DataError: the root or a data set is missing or cannot be used.
    """
    if isinstance(datasets, str):
        datasets = [datasets]
    if datasets is not None and not datasets:
        return []
    names = find_benchmarks(root) if datasets is None else datasets
    return [load_benchmark(root, name) for name in names]


def _named(on_progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(name, done, total)
