"""A small training loop: AdamW, a cosine, and batches in an order drawn from a generator."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from patchclip.errors import ConfigError, TrainingError

Progress = Callable[[int, int, float], None]
"""Told at the end of each pass over the shots: steps done, all steps, mean loss of the pass."""


@dataclass(frozen=True)
class Schedule:
    """AdamW whose learning rate falls from `lr` to `final_lr` along half a cosine, one update a step.

    Args:
        steps: updates, >= 1.
        batch_size: images in each, >= 1; the last one of a pass over the shots may have fewer.
        lr: learning rate of the first update, > 0.
        weight_decay: AdamW's, >= 0, of all that is trained.
        final_lr: where the cosine ends, in [0, lr].

    Raises:
        ConfigError: a value outside its range.
    """

    steps: int
    batch_size: int
    lr: float
    weight_decay: float
    final_lr: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ConfigError(f"steps={self.steps} and batch_size={self.batch_size} must be at least 1")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr={self.lr} must be finite and above 0")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay={self.weight_decay} must be finite and at least 0; 0 is none")
        if not 0 <= self.final_lr <= self.lr:
            raise ConfigError(f"final_lr={self.final_lr} must be in [0, lr], with lr={self.lr}")


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Rows of one batch after another without an end: every pass over all rows in an order of its own."""
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        yield from (order[start : start + size] for start in range(0, count, size))


def tune(
    trained: Sequence[Tensor],
    gradients: Callable[[list[int]], Tensor],
    count: int,
    schedule: Schedule,
    generator: torch.Generator,
    watch: Callable[[int, float | None], None],
) -> None:
    """Updates the leaves `trained`; the loss is looked at once a pass, so that no step waits for it.

    Args:
        trained: what AdamW updates, in place.
        gradients: rows -> the loss, 0-d, its gradients left in `trained`.
        count: rows there are.
        schedule: of the updates.
        generator: of the order of the rows.
        watch: told after each update how many there were, and the mean loss of a pass where one ends.

    Raises:
        TrainingError: a loss that is not finite.
    """
    optimizer = torch.optim.AdamW(trained, lr=schedule.lr, weight_decay=schedule.weight_decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.steps, schedule.final_lr)
    losses: list[Tensor] = []
    a_pass = math.ceil(count / schedule.batch_size)
    for step, rows in enumerate(batches(count, schedule.batch_size, generator), start=1):
        optimizer.zero_grad()
        losses.append(gradients(rows).detach())
        optimizer.step()
        cosine.step()
        ends = step % a_pass == 0 or step == schedule.steps
        watch(step, mean_of(losses, step, schedule) if ends else None)
        if step == schedule.steps:
            return
        if ends:
            losses.clear()


def mean_of(losses: Sequence[Tensor], step: int, schedule: Schedule) -> float:
    """Mean of the last losses, up to that of `step`; raises TrainingError if one of them is not finite."""
    values = torch.stack(list(losses)).tolist()
    for back, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss must stay finite but is {value} at step {step - back} of {schedule.steps}: lower "
                f"lr={schedule.lr}, or look for images or weights that are not finite; the model is unchanged"
            )
    return float(sum(values) / len(values))
