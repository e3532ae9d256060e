"""The modality gap: how far image and text embeddings lie apart, and how evenly they fill the sphere."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import mean_row, principal
from patchclip.errors import ConfigError, DataError
from patchclip.geometry.analyses._rows import checked, spread_out, unit_stats, units
from patchclip.geometry.analyses._separable import held_out_accuracy
from patchclip.geometry.analyses._slerp import angle

BLOCK = 1024
"""Rows whose distances to all others are in memory at a time."""
SEPARATED = 1 << 16
"""Rows, evenly spaced, that separability is measured on where there are more."""


@dataclass(frozen=True)
class ModalityGap:
    """Gap, alignment and uniformity of image and text embeddings, brought to unit length.

    centroid_distance    ||mean x - mean y||, in [0, 2]
    separability         held-out accuracy of a plane between the modalities, 0.5 where there is none
    alignment            mean ||x_i - y_i||^2 of the pairs, in [0, 4]
    uniformity_image     log mean_(i != j) exp(-2 ||x_i - x_j||^2), 0 where all are one, about -4 where even
    uniformity_text, uniformity_cross    the same among texts, and of images with texts not their own
    positive_angle       mean angle of the pairs, in degrees
    alignment_score      mean cosine of the pairs
    relative_alignment   alignment_score - mean cosine of the wrong pairs

    Source: centroids: Liang et al., "Mind the Gap", NeurIPS 2022, arXiv 2203.02053; alignment and uniformity:
    Wang, Isola, ICML 2020, arXiv 2005.10242, across modalities: Fahim, Murphy, Fyshe, "It's Not a Modality
    Gap", 2024, arXiv 2405.18570; alignment_score: Eslami, de Melo, "Mitigate the Gap", ICLR 2025, arXiv
    2406.17639.
    Differs: separability is that of held-out rows, by linear discriminant analysis; relative_alignment is
    ours, for a mean cosine rises where all embeddings move together.

    Args:
        sample: rows that uniformity is computed of, evenly spaced where there are more: it is quadratic.

    Raises:
        ConfigError: a sample below 2 rows.
    """

    sample: int = 8192

    def __post_init__(self) -> None:
        if self.sample < 2:
            raise ConfigError(f"sample={self.sample} must be at least 2 rows")

    def __call__(self, image: Float[Tensor, "n e"], text: Float[Tensor, "n e"]) -> dict[str, float]:
        """The figures. Raises DataError for fewer than 4 rows, other shapes, or rows that are not finite."""
        image, text = checked(image, text)
        one, other = mean_row(units(image)), mean_row(units(text))
        cosines, angles = zip(
            *(((x * y).double().sum(dim=-1), angle(x, y)) for x, y in _pairs(image, text)), strict=True
        )
        score, n = float(torch.cat(cosines).mean()), len(image)
        wrong = (n * float(one @ other) - score) / (n - 1)
        rows = spread_out(n, self.sample)
        x, y = image[rows], text[rows]
        told = spread_out(n, SEPARATED)
        one_told, other_told = (torch.cat([*units(each[told])]) for each in (image, text))
        return {
            "centroid_distance": float((one - other).norm()),
            "separability": held_out_accuracy(one_told, other_told),
            "alignment": float(alignment(image, text)),
            "uniformity_image": float(uniformity(x)),
            "uniformity_text": float(uniformity(y)),
            "uniformity_cross": float(uniformity(x, y)),
            "positive_angle": math.degrees(float(torch.cat(angles).double().mean())),
            "alignment_score": score,
            "relative_alignment": score - wrong,
        }


def _pairs(image: Tensor, text: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(units(image), units(text), strict=True)


def alignment(image: Float[Tensor, "n e"], text: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean squared distance of the pairs at unit length, float64."""
    return torch.cat([(x - y).double().square().sum(dim=-1) for x, y in _pairs(image, text)]).mean()


def uniformity(rows: Float[Tensor, "n e"], other: Float[Tensor, "m e"] | None = None) -> Float[Tensor, ""]:
    """Log of the mean Gaussian potential of the rows at unit length, or of rows with others not their own.

    log mean_(i != j) exp(-2 ||x_i - y_j||^2), y = x without `other`; exact, in O(n^2) time and O(n) memory

    Raises:
        DataError: fewer than 2 rows, or sets of other shapes.
    """
    if len(rows) < 2 or (other is not None and other.shape != rows.shape):
        shape = None if other is None else list(other.shape)
        raise DataError(f"uniformity needs at least 2 rows, got {list(rows.shape)} and {shape}")
    x = torch.cat([*units(rows)])
    y = x if other is None else torch.cat([*units(other)])
    total = torch.zeros((), dtype=torch.float64, device=x.device if x.device.type != "mps" else "cpu")
    for first in range(0, len(x), BLOCK):
        block = x[first : first + BLOCK]
        potential = (-4 * (1 - block @ y.T)).exp()  # n n
        potential.diagonal(offset=first).zero_()
        total += potential.to(total).sum()
    return (total / (len(x) * (len(x) - 1))).log()


def plane(
    image: Float[Tensor, "n e"], text: Float[Tensor, "n e"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Image and text embeddings at unit length on the first two principal components of both together.

    The same picture at every call: the largest entry of a component is positive.
    """
    image, text = checked(image, text)
    stats = unit_stats(image).merge(unit_stats(text))
    axes = principal(stats.covariance)[1][:, :2]
    one, other = (
        torch.cat([(part.to(axes) - stats.mean) @ axes for part in units(rows)]) for rows in (image, text)
    )
    return one, other
