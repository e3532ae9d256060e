"""Whitened embeddings: how near they come to a standard normal distribution, and what is likely."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.embeddings.feature_stats import CHUNK, FeatureStats, check_whitening, log_normal, whitening
from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import ConfigError, DataError
from patchclip.geometry.analyses._normality import looks_normal
from patchclip.geometry.analyses._rows import checked, spread_out, wide
from patchclip.geometry.analyses._slerp import angle, slerp

TESTED = 5000
"""Rows, evenly spaced, that the test of normality sees: with more it finds any deviation, however small."""


@dataclass(frozen=True)
class Whitened:
    """Lengths, normality and likelihoods after whitening; even rows are the reference, odd rows are held out.

    Figures, image_ and text_: rank (directions kept, r); norm (mean length of the whitened reference), norm_
    expected (sqrt(r - 1/2), that of a normal distribution), norm_held_out and norm_spread (of held-out rows:
    mean and standard deviation, the latter about 0.71 in theory); normal (share of the whitened numbers that
    pass the Anderson-Darling test at 5 %, on the reference); log_likelihood (mean of held-out rows).
    Of both: pair_correlation (Pearson, of the log-likelihoods of an image and its text, held out).

    Source: Betser, Levi, Gilboa, "Whitened CLIP as a Likelihood Surrogate of Images and Captions", ICML 2025,
    arXiv 2505.06934, section 3 and its tests of normality.
    Differs: held-out figures beside those of the reference; see `Whiten` of `embeddings/maps/` for the
    covariance. With `shrinkage` lengths are shorter than expected, by what was added to the variances.

    Args:
        shrinkage: of the covariance, in [0, 1].
        rank: directions kept, >= 1; None for all that vary.

    Raises:
        ConfigError: an option outside its range.
    """

    shrinkage: float = 0.0
    rank: int | None = None

    def __post_init__(self) -> None:
        check_whitening(self.shrinkage, self.rank)

    def __call__(self, image: Float[Tensor, "n e"], text: Float[Tensor, "n e"]) -> dict[str, float]:
        """The figures. Raises DataError for fewer than 4 rows, other shapes, or rows that are not finite."""
        image, text = checked(image, text)
        found: dict[str, float] = {}
        likelihoods = []
        for side, rows in (("image", image), ("text", text)):
            figures, held_out = self._side(rows)
            found |= {f"{side}_{name}": value for name, value in figures.items()}
            likelihoods.append(held_out - held_out.mean())
        x, y = likelihoods
        tiny = torch.finfo(torch.float64).tiny
        return found | {"pair_correlation": float((x @ y) / (x.norm() * y.norm()).clamp_min(tiny))}

    def _side(self, rows: Tensor) -> tuple[dict[str, float], Tensor]:
        """Figures of one modality, and the log-likelihoods of its held-out rows."""
        reference, held_out = rows[::2], rows[1::2]
        whiten = whitening(FeatureStats.of(reference), self.shrinkage, self.rank)
        rank = whiten.output_width
        lengths, other = _squares(reference, whiten).sqrt(), _squares(held_out, whiten).sqrt()
        tested = whiten.apply(reference[spread_out(len(reference), TESTED)].to(whiten.weight))
        likelihood = log_normal(other.square(), rank)
        return {
            "rank": float(rank),
            "norm": float(lengths.mean()),
            "norm_expected": math.sqrt(rank - 0.5),
            "norm_held_out": float(other.mean()),
            "norm_spread": float(other.std()),
            "normal": float(looks_normal(tested).double().mean()),
            "log_likelihood": float(likelihood.mean()),
        }, likelihood


def _squares(rows: Tensor, whiten: LinearMap) -> Tensor:
    """Squared lengths of whitened rows, float64."""
    parts = rows.split(CHUNK)
    return torch.cat([whiten.apply(part.to(whiten.weight)).square().sum(dim=-1) for part in parts])


def log_likelihoods(
    rows: Float[Tensor, "n e"],
    reference: Float[Tensor, "m e"] | None = None,
    shrinkage: float = 0.0,
    rank: int | None = None,
) -> Float[Tensor, "n"]:
    """Log-density of each row, whitened by a reference set or its own: -(r log(2 pi) + ||y||^2) / 2, float64.

    Raises:
        ConfigError: an option outside its range (see `whitening`).
        DataError: fewer than 2 rows of reference, or rows that are not finite.
    """
    whiten = whitening(FeatureStats.of(rows if reference is None else reference), shrinkage, rank)
    return log_normal(_squares(rows, whiten), whiten.output_width)


def extremes(values: Float[Tensor, "n"], count: int) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    """Rows of the lowest values, the lowest first, and of the highest, the highest first; at most `count`.

    Raises:
        ConfigError: a count below 1.
        DataError: NaN among the values.
    """
    if count < 1:
        raise ConfigError(f"count={count} must be at least 1")
    if values.isnan().any():
        raise DataError(f"{int(values.isnan().sum())} of {len(values)} values are NaN: they have no order")
    low, high = (torch.sort(values, stable=True, descending=down).indices for down in (False, True))
    return low[:count], high[:count]


def full_circle(
    start: Float[Tensor, "e"], end: Float[Tensor, "e"], degrees: Float[Tensor, "t"], whiten: LinearMap
) -> Float[Tensor, "t e"]:
    """Embeddings on the circle through two others in whitened space, by their angle from the first.

    At 0 and 360 degrees it is `start`, at the angle between the two `end`, at 180 the opposite of `start`:
    2 mean - start. What `whiten` leaves out is that of the mean.

    Raises:
        DataError: ends that are the same or opposite in whitened space: many circles go through them.
    """
    one, other = (whiten.apply(wide(each).to(whiten.weight)) for each in (start, end))
    between = angle(one, other)
    if between < 1e-6:
        raise DataError("many circles go through one point: the two ends must differ")
    points = slerp(one, other, torch.deg2rad(degrees.to(one)) / between)
    return whiten.invert().apply(points).to(wide(start).dtype)
