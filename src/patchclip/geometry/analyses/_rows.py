"""Rows of embeddings as the analyses read them: checked, in parts, a sample of them."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import CHUNK, FeatureStats, check_finite
from patchclip.errors import DataError

FEWEST = 4
"""Pairs that an analysis needs: two to learn from, two to hold out."""


def checked(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Both without gradients, float32 at least.

    Raises:
        DataError: other shapes, fewer than 4 rows, or rows that are not finite.
    """
    if image.ndim != 2 or image.shape != text.shape or len(image) < FEWEST:
        raise DataError(
            f"an analysis needs as many image as text embeddings, at least {FEWEST}, of one width; got "
            f"{list(image.shape)} and {list(text.shape)}"
        )
    check_finite(image, "image rows")
    check_finite(text, "text rows")
    return wide(image), wide(text)


def wide(rows: Tensor) -> Tensor:
    """Without a gradient, float32 at least."""
    return rows.detach().to(torch.promote_types(rows.dtype, torch.float32))


def units(rows: Float[Tensor, "n e"]) -> Iterator[Tensor]:
    """The rows at unit length, a part at a time."""
    for part in rows.split(CHUNK):
        yield F.normalize(wide(part), dim=-1)


def unit_stats(rows: Float[Tensor, "n e"]) -> FeatureStats:
    """Statistics of the rows at unit length."""
    stats = FeatureStats.of(rows[:0])
    for part in units(rows):
        stats.update(part)
    return stats


def spread_out(count: int, most: int) -> Tensor:
    """Numbers of at most `most` of `count` rows, evenly spaced: the same at every call."""
    if count <= most:
        return torch.arange(count)
    return torch.arange(most) * count // most
