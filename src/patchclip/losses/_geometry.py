"""Tables of scores in flat, round and hyperbolic space, and angles of entailment cones.

Every root and inverse cosine here has a bounded gradient where points coincide.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

FARTHEST = math.asinh(2.0**15)
"""sqrt(c) |x| beyond which a point of the hyperboloid is held, about 11.09."""


def root(square: Tensor) -> Tensor:
    """sqrt of numbers >= 0; linear below the dtype's precision, so that its slope is finite: root(0) = 0."""
    least = torch.finfo(square.dtype).eps
    return torch.where(square > least, square.clamp_min(least).sqrt(), square.clamp_min(0) / least**0.5)


def inner(x: Float[Tensor, "n e"], y: Float[Tensor, "m e"], curvature: Any) -> Float[Tensor, "n m"]:
    """<x, y>."""
    return x @ y.T


def euclidean_squared(
    x: Float[Tensor, "n e"], y: Float[Tensor, "m e"], curvature: Any
) -> Float[Tensor, "n m"]:
    """-|x - y|^2, at most 0 up to rounding."""
    return 2 * x @ y.T - x.square().sum(1, keepdim=True) - y.square().sum(1)


def euclidean(x: Float[Tensor, "n e"], y: Float[Tensor, "m e"], curvature: Any) -> Float[Tensor, "n m"]:
    """-|x - y|."""
    return -root(-euclidean_squared(x, y, curvature))


def elliptic(x: Float[Tensor, "n e"], y: Float[Tensor, "m e"], curvature: Any) -> Float[Tensor, "n m"]:
    """-arc between unit vectors: 2 asin of half the chord to y, or pi less that to -y, the nearer."""
    cosine = x @ y.T
    near = cosine >= 0
    arc = 2 * torch.asin(root(2 - 2 * torch.where(near, cosine, -cosine)) / 2)
    return -torch.where(near, arc, torch.pi - arc)


def lorentz(x: Float[Tensor, "n e"], curvature: Tensor) -> tuple[Float[Tensor, "n e"], Float[Tensor, " n"]]:
    """Space s = sinh(r|x|) / (r|x|) x, r = sqrt(c), and time sqrt(1/c + |s|^2) of the hyperboloid."""
    square = curvature * x.square().sum(1, keepdim=True)
    turned = square.clamp_min(1e-8).sqrt().clamp_max(FARTHEST)
    grown = torch.where(square > 1e-8, turned.sinh() / square.clamp_min(1e-8).sqrt(), 1 + square / 6)
    space = grown * x
    return space, (1 / curvature + space.square().sum(1)).sqrt()


def hyperbolic_inner(
    x: Float[Tensor, "n e"], y: Float[Tensor, "m e"], curvature: Tensor
) -> Float[Tensor, "n m"]:
    """Lorentz product, at most -1/c up to rounding."""
    (x_space, x_time), (y_space, y_time) = lorentz(x, curvature), lorentz(y, curvature)
    return x_space @ y_space.T - torch.outer(x_time, y_time)


def hyperbolic(x: Float[Tensor, "n e"], y: Float[Tensor, "m e"], curvature: Tensor) -> Float[Tensor, "n m"]:
    """-d: d = acosh(1 + z) / sqrt(c) = log1p(z + sqrt(z (z + 2))) / sqrt(c)."""
    z = (-curvature * hyperbolic_inner(x, y, curvature) - 1).clamp_min(0)
    return -torch.log1p(z + root(z * (z + 2))) / curvature.sqrt()


def hyperbolic_squared(
    x: Float[Tensor, "n e"], y: Float[Tensor, "m e"], curvature: Tensor
) -> Float[Tensor, "n m"]:
    """-d^2."""
    return -hyperbolic(x, y, curvature).square()


Scores = Callable[[Tensor, Tensor, Any], Tensor]
METRICS: dict[str, Scores] = {
    "cosine": inner,
    "elliptic": elliptic,
    "euclidean": euclidean,
    "euclidean_squared": euclidean_squared,
    "inner": inner,
    "hyperbolic": hyperbolic,
    "hyperbolic_inner": hyperbolic_inner,
    "hyperbolic_squared": hyperbolic_squared,
}
"""Name -> (x, y, curvature) -> scores; the released code calls "cosine" clip and "inner" euclidean-inner."""


def angle(adjacent: Tensor, square: Tensor) -> Tensor:
    """The angle in [0, pi] whose cosine is adjacent / sqrt(square); 0 where there is none."""
    known = square > torch.finfo(square.dtype).tiny ** 0.5
    one = torch.ones_like(square)
    cosine = torch.where(known, adjacent * torch.where(known, square, one).rsqrt(), one)
    return torch.atan2(root(1 - cosine.square()), cosine)


def aperture(share_squared: Tensor) -> Tensor:
    """asin(min(1, 1 / share)) of a cone, share = length / radius, as atan2(1, sqrt(share^2 - 1))."""
    return torch.atan2(torch.ones_like(share_squared), root(share_squared - 1))


def euclidean_excess(
    x: Float[Tensor, "b e"], y: Float[Tensor, "b e"], curvature: Any, radius: float
) -> Float[Tensor, " b"]:
    """How far y lies outside of the cone of x: exterior angle at x less the cone's, at least 0."""
    step = y - x
    length = x.square().sum(1)
    exterior = angle((step * x).sum(1), step.square().sum(1) * length)
    return (exterior - aperture(length / radius**2)).clamp_min(0)


def hyperbolic_excess(
    x: Float[Tensor, "b e"], y: Float[Tensor, "b e"], curvature: Tensor, radius: float
) -> Float[Tensor, " b"]:
    """The same on the hyperboloid; the cone of x is asin(min(1, 2 radius / (sqrt(c) |space of x|)))."""
    (x_space, x_time), (y_space, y_time) = lorentz(x, curvature), lorentz(y, curvature)
    product = curvature * ((x_space * y_space).sum(1) - x_time * y_time)  # <= -1
    length = x_space.square().sum(1)
    exterior = angle(y_time + x_time * product, length * (product.square() - 1))
    return (exterior - aperture(length * curvature / (2 * radius) ** 2)).clamp_min(0)
