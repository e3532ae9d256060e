"""What losses measure on the unit sphere: alignment, uniformity, and points on the arc between two others."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.losses._rows import widened

NEAR = 1e-3
"""Up to this 1 - cos, weights of an arc come from their series, which needs no division by a sine of 0."""
FAR = 1e-4
"""Down to this 1 + cos an arc is computed; between opposite points it is not unique."""


def alignment(first: Float[Tensor, "n e"], second: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean squared distance of pairs, 0 where they coincide: mean_i ||x_i - y_i||^2, in at least float32.

    Source: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", ICML 2020, arXiv 2005.10242, section 4.1 (alpha = 2).
    """
    return (widened(first) - widened(second)).square().sum(dim=1).mean()


def uniformity(rows: Float[Tensor, "n e"], others: Float[Tensor, "n e"] | None = None) -> Float[Tensor, ""]:
    """How closely rows lie together, 0 where all coincide: log mean_{i != j} exp(-2 ||x_i - y_j||^2).

    Source: as `alignment`, with t = 2.

    Args:
        rows: of unit length.
        others: what they are held against, row i of which belongs to row i; None for the rows themselves.

    Returns:
        0-d, float32 or float64. For one row, which lies together with nothing, 0 with a gradient of 0.
    """
    x = widened(rows)
    y = x if others is None else widened(others)
    squares = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * x @ y.T  # n n
    count = len(x) * (len(x) - 1)
    if not count:
        return 0 * squares.sum()
    own = torch.eye(len(x), dtype=torch.bool, device=x.device)
    closeness = (-2 * squares).masked_fill(own, -torch.inf)
    return closeness.flatten().logsumexp(dim=0) - math.log(count)


def between(
    first: Float[Tensor, "n e"], second: Float[Tensor, "n e"], share: Float[Tensor, ""]
) -> Float[Tensor, "n e"]:
    """The point of each arc that is `share` of the way from the second unit-length row to the first.

    m(x, y) = (x sin(share theta) + y sin((1 - share) theta)) / sin(theta),  theta = arccos(x . y)

    Where both nearly coincide the weights come from their series in 1 - cos, which ends in (share,
    1 - share): value and gradient are finite. Where they are opposite (1 + cos below 1e-4) the angle is that
    at 1e-4, without a gradient of its own, and the point lies inside the sphere.
    """
    x, y = widened(first), widened(second)
    cosine = (x * y).sum(dim=1, keepdim=True)  # n 1
    near = 1 - cosine < NEAR
    angle = cosine.masked_fill(near, 0).clamp_min(FAR - 1).arccos()
    weights = []
    for part in (share, 1 - share):
        series = _series(1 - cosine, part)
        weights.append(torch.where(near, series, (part * angle).sin() / angle.sin()))
    return weights[0] * x + weights[1] * y


def _series(versine: Tensor, part: Tensor) -> Tensor:
    """sin(part theta) / sin(theta) to the second order in 1 - cos(theta)."""
    square = part.square()
    first = (1 - square) / 3
    second = (1 - square) / 18 + (3 * square.square() - 10 * square + 7) / 90
    return part * (1 + first * versine + second * versine.square())
