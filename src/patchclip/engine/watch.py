"""Says in words when training does not learn, or no longer computes."""

import logging
import math
from collections import deque

from patchclip.errors import TrainingError

log = logging.getLogger(__name__)

WINDOW = 20


class LossWatch:
    """Reads the loss at every log line and warns once for each thing that is wrong.

    Args:
        chance: the loss of guessing (ln of the contrastive batch for InfoNCE), or None if there is none.
        patience: step after which guessing is no longer normal.
        max_bad_steps: updates in a row that may be non-finite before training stops.
    """

    def __init__(self, chance: float | None, patience: int, max_bad_steps: int) -> None:
        self.chance, self.patience, self.max_bad_steps = chance, patience, max_bad_steps
        self.window: deque[float] = deque(maxlen=WINDOW)
        self.warned: set[str] = set()

    def see(self, step: int, loss: float, bad_in_a_row: int, bad_in_all: int) -> None:
        """Looks at one log line.

        Raises:
            TrainingError: more than `max_bad_steps` updates in a row were non-finite.
        """
        if bad_in_a_row > self.max_bad_steps:
            raise TrainingError(
                f"{bad_in_a_row} updates in a row had non-finite gradients and were skipped (step {step}): "
                "lower optim.lr, set stability.clip=norm, or use train.precision=bf16 or fp32; "
                "the last checkpoint is good"
            )
        if bad_in_all or not math.isfinite(loss):
            self.warn(
                "finite", f"non-finite loss or gradients by step {step}: {bad_in_all} updates skipped so far"
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
                f"the loss sits at {self.window[-1]:.3f}: guessing gives ln(batch) = {self.chance:.3f}; "
                "check that captions fit their images, lower optim.lr, or lengthen optim.warmup_steps",
            )

    def warn(self, kind: str, message: str) -> None:
        """Logs a warning once a kind."""
        if kind not in self.warned:
            self.warned.add(kind)
            log.warning(message)
