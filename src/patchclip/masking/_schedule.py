"""How many patches are kept: from a mask ratio and the progress of training, never from the batch."""

import hashlib
import struct
from collections.abc import Sequence

from patchclip.errors import ConfigError

BUCKETS = 5
"""A ratio range is drawn from this many fixed ratios, so that compiled graphs and buffers are few."""

MaskRatio = float | Sequence[float]


def check_ratio(mask_ratio: MaskRatio) -> tuple[float, ...]:
    """Mask ratio as one value, or as the evenly spaced ratios of a range (low, high).

    Args:
        mask_ratio: share of the patches that is dropped, in [0, 1); or a range `(low, high)` of it.

    Returns:
        The ratios that can occur: one, or `BUCKETS` of them from low to high.

    Raises:
        ConfigError: outside [0, 1), or not one number or an ascending pair.
    """
    values = (mask_ratio,) if isinstance(mask_ratio, int | float) else tuple(mask_ratio)
    ordered = len(values) in (1, 2) and all(isinstance(v, int | float) for v in values)
    if not ordered or not all(0 <= v < 1 for v in values) or values[0] > values[-1]:
        raise ConfigError(
            f"mask_ratio={mask_ratio!r} must be the share of patches dropped, in [0, 1), "
            "or a range [low, high] of it: use 0.5 or [0.3, 0.5]"
        )
    low, high = float(values[0]), float(values[-1])
    if low == high:
        return (low,)
    return tuple(low + (high - low) * i / (BUCKETS - 1) for i in range(BUCKETS))


def kept_patches(patches: int, ratio: float) -> int:
    """Patches kept of `patches` when the share `ratio` is dropped: floor, at least one (as FLIP)."""
    return max(1, int(patches * (1 - ratio) + 1e-6))


def ratio_at(ratios: tuple[float, ...], progress: float) -> float:
    """The ratio at `progress`: drawn uniformly from `ratios` by a hash, so that every rank agrees.

    The draw changes from step to step, is the same on every machine, and is the same again after a resume.
    """
    digest = hashlib.blake2b(struct.pack("<d", progress), digest_size=8).digest()
    return ratios[int.from_bytes(digest, "little") % len(ratios)]
