"""How many patches are kept: from a mask ratio and the progress of training, never from the batch."""

import hashlib
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from patchclip.errors import ConfigError

BUCKETS = 5
"""A ratio range is walked or drawn in this many fixed ratios, so that compiled graphs and buffers are few."""

MaskRatio = float | Sequence[float]


def _draw(progress: float) -> float:
    """A position in [0, 1) by a hash: another one at each step, the same on every rank and after a resume."""
    digest = hashlib.blake2b(struct.pack("<d", progress), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def _linear(progress: float) -> float:
    return progress


def _cosine(progress: float) -> float:
    return (1 - math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {"draw": _draw, "linear": _linear, "cosine": _cosine}
"""Name -> where between its two ends the ratio stands at a progress."""


@dataclass(frozen=True)
class RatioSchedule:
    """The share of patches dropped over training, and the number kept that follows from it.

    ratio(p) = first + (last - first) * i / 4, where i = 0 .. 4 is the fifth of [0, 1] that holds s(p); s is
    "draw" (uniform by a hash of p: a ratio a step), "linear" (p) or "cosine" ((1 - cos(pi p)) / 2).

    Args:
        mask_ratio: share of the patches that is dropped, in [0, 1); or (first, last) of it.
        schedule: "draw", "linear" or "cosine"; without effect on a single ratio.

    Raises:
        ConfigError: a ratio outside [0, 1), not one number or a pair, a pair to draw from that falls, or an
            unknown schedule.
    """

    mask_ratio: MaskRatio
    schedule: str = "draw"
    ratios: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule={self.schedule!r} must be one of {', '.join(SCHEDULES)}")
        given = self.mask_ratio
        values = (given,) if isinstance(given, int | float) else tuple(given)
        fits = len(values) in (1, 2) and all(isinstance(v, int | float) and 0 <= v < 1 for v in values)
        if not fits:
            raise ConfigError(
                f"mask_ratio={given!r} must be the share of patches dropped, in [0, 1), "
                "or a pair [first, last] of it: use 0.5 or [0.3, 0.5]"
            )
        first, last = float(values[0]), float(values[-1])
        if self.schedule == "draw" and first > last:
            raise ConfigError(
                f"mask_ratio={given!r} must rise to be drawn from: use [{last:g}, {first:g}], or "
                "schedule=linear or cosine to go from the first to the last over training"
            )
        steps = BUCKETS - 1
        ratios = tuple(first + (last - first) * i / steps for i in range(BUCKETS))
        object.__setattr__(self, "ratios", (first,) if first == last else ratios)

    def at(self, progress: float) -> float:
        """The ratio at `progress` in [0, 1]."""
        place = SCHEDULES[self.schedule](progress)
        return self.ratios[min(int(place * len(self.ratios)), len(self.ratios) - 1)]

    def kept(self, patches: int, progress: float) -> int:
        """Patches kept of `patches` at `progress`: floor(patches * (1 - ratio)), at least one (as FLIP)."""
        return max(1, int(patches * (1 - self.at(progress)) + 1e-6))
