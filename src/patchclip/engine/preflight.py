"""Looks at one real batch before anything expensive starts, and says what the run will be."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from patchclip.config import METHODS, EvalConfig, TrainConfig
from patchclip.contracts import Batch
from patchclip.engine.assemble import build_method
from patchclip.engine.extras import check_wants, made_whole
from patchclip.engine.head import check_head
from patchclip.engine.parts import Parts
from patchclip.engine.ranks.exchange import check_exchange
from patchclip.engine.step import Scale
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation._runner import build_suites, usable_sets

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preflight:
    """What one real batch told: counts, images/s of loading and of training on this rank, seconds in all."""

    pairs: int
    captions: int | None
    batch: int
    contrastive_batch: int
    load_rate: float
    train_rate: float
    seconds: float

    def __str__(self) -> str:
        captions = f"{self.captions:,}" if self.captions is not None else "uncounted"
        return (
            f"{self.pairs:,} pairs, {captions} captions; contrastive batch {self.contrastive_batch}; "
            f"loading {self.load_rate:.0f} images/s, training {self.train_rate:.0f} images/s; "
            f"about {self.seconds / 60:.1f} minutes"
        )


def check_methods(config: TrainConfig) -> None:
    """Builds every method once, so that a value out of range is named before a folder is made.

    Raises:
        ConfigError: an option that its method refuses, or methods that do not go with the loop's settings.
    """
    built = {section: build_method(config, section) for section in METHODS}
    loss = made_whole(built["loss"])
    check_head(config, loss)
    check_wants(config, loss)
    check_exchange(config, loss)
    if config.train.views == 1 and hasattr(built["loss"], "between"):
        raise ConfigError("train.views=1, but this loss compares views of an image: set train.views=2")
    if config.train.micro_batch is not None and hasattr(built["masking"], "last_bias"):
        raise ConfigError(
            f"masking.name={config.masking['name']} mixes the images of a batch by its attention bias, so "
            "micro-batches would be another loss: unset train.micro_batch"
        )


def check_sets(chosen: EvalConfig) -> None:
    """Opens every evaluation set now: one that is missing or damaged is not found at the end of a run.

    Raises:
        ConfigError: a suite or one of its options is unknown.
        DataError: the root, or a set that is named, cannot be used; or none under the root can.
    """
    build_suites(chosen.suites)
    sets, missing = usable_sets(chosen.root, chosen.datasets)
    if chosen.datasets != [] and (not sets or (chosen.datasets and missing)):
        raise DataError("eval.datasets: " + "; ".join(f"{each.asked}: {each.reason}" for each in missing))


def inspect(
    parts: Parts, read: Callable[[], Batch], contrastive_batch: int, steps: int, warm: bool = False
) -> tuple[Preflight, Batch]:
    """Reads one batch, runs one forward and backward on it without an update, and logs what to expect.

    Args:
        parts: of the run.
        read: gives the first batch.
        contrastive_batch: pairs that compete in the loss, over all ranks.
        steps: optimiser steps still to do.
        warm: run the step once before it is timed.

    Returns:
        The figures, and the batch, which is trained on next.
    """
    started = time.perf_counter()
    batch = read()
    load_seconds = time.perf_counter() - started
    if warm:
        rehearse(parts, batch)
    started = time.perf_counter()
    rehearse(parts, batch)
    train_seconds = time.perf_counter() - started
    together = max if parts.stream.workers else sum  # workers load while the model trains
    seconds = steps * together((load_seconds, train_seconds))
    figures = Preflight(
        pairs=len(parts.source),
        captions=parts.source.captions,
        batch=len(batch),
        contrastive_batch=contrastive_batch,
        load_rate=len(batch) / load_seconds,
        train_rate=len(batch) / train_seconds,
        seconds=seconds,
    )
    log.info("preflight: %s", figures)
    return figures, batch


def rehearse(
    parts: Parts, batch: Batch, seed: tuple[int, ...] = (0, 0, 0), scale: Scale = lambda loss: loss
) -> None:
    """One forward and backward that leaves no trace, not even in running statistics (batch norm)."""
    buffers = [(buffer, buffer.clone()) for buffer in parts.model.buffers()]
    pixels, tokens = parts.to_device(batch)
    parts.gradients(pixels, tokens, seed, scale)
    parts.optimizer.zero_grad(set_to_none=True)
    for buffer, before in buffers:
        buffer.copy_(before)
    if parts.device.type == "cuda":
        torch.cuda.synchronize(parts.device)
