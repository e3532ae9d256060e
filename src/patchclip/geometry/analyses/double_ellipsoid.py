"""The double ellipsoid: two thin, tilted shells off the origin, and how common each row is."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import CHUNK, FeatureStats, mean_row
from patchclip.errors import ConfigError
from patchclip.geometry.analyses._rows import checked, spread_out, units, wide
from patchclip.geometry.analyses._separable import held_out_accuracy
from patchclip.geometry.analyses._shells import conformity, divergence, norms, spectrum, variances
from patchclip.geometry.analyses._slerp import slerp

__all__ = [
    "DoubleEllipsoid",
    "conformity",
    "divergence",
    "norms",
    "shift_curve",
    "spectrum",
    "variances",
    "vslerp",
]
PAIRS = 2048
"""Rows among which the loss is computed: it is quadratic."""


@dataclass(frozen=True)
class DoubleEllipsoid:
    """Shape, place and conformity of the image and the text embeddings, as the towers give them.

    Figures, image_ and text_: norm (mean length); radius (mean distance to the mean) and thickness (its
    standard deviation / radius: a thin shell has little); offset (||mean|| / sqrt(sum of variances)); stretch
    (largest / median variance of a number: 1 for a ball); tilt (share of the covariance's Frobenius norm off
    its diagonal, in [0, 1)); conformity (mean) and conformity_spread (standard deviation); estimate (Pearson
    of conformity with the cosine to the mean) and slope (of that cosine on conformity).
    Of both: two_numbers (held-out accuracy of a line in the two numbers of an embedding that tell the
    modalities apart best), conformity_kl (image from text), loss (of the pairs, as they lie).

    Source: Levi, Gilboa, "The Double-Ellipsoid Geometry of CLIP", ICML 2025, arXiv 2411.14517.
    Differs: see `conformity`, `shift_curve` and `vslerp`; `tilt` and `stretch` are our figures for what the
    paper shows as pictures.

    Args:
        scale: what cosines are multiplied by in the loss, > 0.

    Raises:
        ConfigError: a scale that is not above 0.
    """

    scale: float = 100.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"scale={self.scale} must be above 0: exp(logit_scale) of the model")

    def __call__(self, image: Float[Tensor, "n e"], text: Float[Tensor, "n e"]) -> dict[str, float]:
        """The figures. Raises DataError for fewer than 4 rows, other shapes, or rows that are not finite."""
        image, text = checked(image, text)
        found: dict[str, float] = {}
        common = conformity(image), conformity(text)
        for side, rows, exact in (("image", image, common[0]), ("text", text, common[1])):
            stats = FeatureStats.of(rows)
            figures = _shape(rows, stats) | _commonness(rows, stats.mean, exact)
            found |= {f"{side}_{name}": float(value) for name, value in figures.items()}
        found["two_numbers"] = held_out_accuracy(image, text, dims=2)
        found["conformity_kl"] = float(divergence(*common))
        found["loss"] = float(shift_curve(image, text, (0.0,), self.scale)[0])
        return found


def _shape(rows: Tensor, stats: FeatureStats) -> dict[str, Tensor]:
    covariance, variance = stats.covariance, stats.variance
    tiny = torch.finfo(torch.float64).tiny
    radii = norms(rows, stats.mean)
    return {
        "norm": norms(rows).mean(),
        "radius": radii.mean(),
        "thickness": radii.std() / radii.mean().clamp_min(tiny),
        "offset": stats.mean.norm() / variance.sum().sqrt().clamp_min(tiny),
        "stretch": variance.max() / variance.median().clamp_min(tiny),
        "tilt": (1 - variance.square().sum() / covariance.square().sum().clamp_min(tiny)).clamp_min(0).sqrt(),
    }


def _commonness(rows: Tensor, mean: Tensor, exact: Tensor) -> dict[str, Tensor]:
    estimate = torch.cat([part.double() @ F.normalize(mean, dim=0) for part in units(rows)])
    x, y = exact - exact.mean(), estimate - estimate.mean()
    tiny = torch.finfo(torch.float64).tiny
    return {
        "conformity": exact.mean(),
        "conformity_spread": exact.std(),
        "estimate": (x @ y) / (x.norm() * y.norm()).clamp_min(tiny),
        "slope": (x @ y) / x.square().sum().clamp_min(tiny),
    }


def shift_curve(
    image: Float[Tensor, "n e"],
    text: Float[Tensor, "n e"],
    alphas: tuple[float, ...],
    scale: float = 100.0,
    pairs: int = PAIRS,
) -> Float[Tensor, "a"]:
    """The contrastive loss where alpha times their mean is taken off the image embeddings, for each alpha.

    Differs: the loss is that among `pairs` rows, evenly spaced where there are more; the mean is of all.
    """
    image, text = checked(image, text)
    mean, rows = mean_row(image.split(CHUNK)), spread_out(len(image), pairs)
    texts, targets = F.normalize(text[rows].double(), dim=-1), torch.arange(len(rows), device=text.device)
    losses = []
    for alpha in alphas:
        images = F.normalize(image[rows].double() - alpha * mean, dim=-1)
        logits = scale * images @ texts.T
        losses.append((F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2)
    return torch.stack(losses)


def vslerp(
    start: Float[Tensor, "e"],
    end: Float[Tensor, "e"],
    steps: Float[Tensor, "t"],
    mean: Float[Tensor, "e"],
    alpha: float = 1.0,
) -> Float[Tensor, "t e"]:
    """Spherical interpolation around alpha times the mean of the embeddings, in place of around the origin.

    vslerp(t) = slerp(start - alpha mean, end - alpha mean, t) + alpha mean

    Differs: the released code takes the arc cosine of the products of the numbers one by one, not of their
    sum, so every number has an angle of its own and the points leave the arc.
    """
    start, end = wide(start), wide(end)
    center = alpha * mean.to(start)
    return slerp(start - center, end - center, steps) + center
