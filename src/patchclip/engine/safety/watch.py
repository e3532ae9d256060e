"""Says in words when training does not learn, or no longer computes."""

import logging
import math
from collections import deque

from torch import nn

from patchclip.config import TrainConfig
from patchclip.errors import TrainingError

log = logging.getLogger(__name__)

WINDOW = 20


class LossWatch:
    """Reads the loss at every log line and warns once for each thing that is wrong.

    Args:
        chance: the loss of guessing (ln of the contrastive batch for InfoNCE), or None if there is none.
        patience: step after which guessing is no longer normal.
        max_bad_steps: updates in a row that may be non-finite before training stops.
        known: updates that were not finite before this run went on: they were told of then.
    """

    def __init__(self, chance: float | None, patience: int, max_bad_steps: int, known: int = 0) -> None:
        self.chance, self.patience, self.max_bad_steps, self.known = chance, patience, max_bad_steps, known
        self.window: deque[float] = deque(maxlen=WINDOW)
        self.warned: set[str] = set()
        self.origin = ""

    def hear(self, origin: str) -> None:
        """Keeps what was not finite first since the last log line, "" if all was finite."""
        self.origin = origin or self.origin

    def see(self, step: int, loss: float, bad_in_a_row: int, bad_in_all: int) -> None:
        """Looks at one log line.

        Args:
            step: of the line.
            loss: mean since the last line.
            bad_in_a_row: updates that were not finite, up to now without a break.
            bad_in_all: such updates so far.

        Raises:
            TrainingError: more than `max_bad_steps` updates in a row were non-finite.
        """
        if bad_in_a_row > self.max_bad_steps:
            raise TrainingError(
                f"{bad_in_a_row} updates in a row had non-finite gradients and were skipped (step {step}), "
                f"{f'the first: {self.origin}' if self.origin else 'their origin is not known'}: "
                "lower optim.lr, set stability.clip=norm, or use train.precision=bf16 or fp32; "
                "the last checkpoint is good"
            )
        if bad_in_all > self.known or not math.isfinite(loss):
            self.warn(
                "finite",
                f"non-finite loss or gradients by step {step}: {bad_in_all} updates skipped so far"
                + (f"; {self.origin}" if self.origin else ""),
            )
        if math.isfinite(loss):
            self.window.append(loss)
        self.look_for_guessing(step)

    def look_for_guessing(self, step: int) -> None:
        """Warns if the last `WINDOW` losses all lie within 1 % of chance, or above it."""
        if self.chance is None or step < self.patience or len(self.window) < WINDOW:
            return
        if min(self.window) >= 0.99 * self.chance:
            self.warn(
                "chance",
                f"the loss sits at {self.window[-1]:.3f}: guessing gives {self.chance:.3f}; "
                "check that captions fit their images, lower optim.lr, or lengthen optim.warmup_steps",
            )

    def warn(self, kind: str, message: str) -> None:
        """Logs a warning once a kind."""
        if kind not in self.warned:
            self.warned.add(kind)
            log.warning(message)


def loss_watch(config: TrainConfig, loss: nn.Module, known: int = 0) -> LossWatch:
    """The watch for a loss: guessing has a known value for InfoNCE, and is normal while warming up."""
    guess = getattr(loss, "chance", None)
    chance = None if guess is None else guess(config.train.batch_size)
    patience = max(100, 2 * config.optim.warmup_steps)
    return LossWatch(chance or None, patience, config.train.max_bad_steps, known)
