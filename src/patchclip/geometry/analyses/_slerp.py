"""Spherical interpolation."""

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.errors import DataError

_PARALLEL = 1e-6


def angle(one: Float[Tensor, "*b e"], other: Float[Tensor, "*b e"]) -> Float[Tensor, "*b"]:
    """Angle between vectors in radians, in [0, pi]; exact for small ones, where the arc cosine is not."""
    u, v = (torch.nn.functional.normalize(each, dim=-1) for each in (one, other))
    return 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))


def slerp(
    start: Float[Tensor, "e"], end: Float[Tensor, "e"], steps: Float[Tensor, "t"]
) -> Float[Tensor, "t e"]:
    """Points of the arc from `start` (step 0) to `end` (step 1), and on beyond them.

    sin((1 - t) a) / sin(a) start + sin(t a) / sin(a) end, a the angle between the two

    Source: Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985.

    Raises:
        DataError: opposite ends, or one of length 0: no arc is the shortest. Parallel ones give a line.
    """
    if not (start.norm() > 0 and end.norm() > 0):
        raise DataError("an arc needs two ends that are not zero")
    between = angle(start, end)
    t = steps.to(start)[:, None]
    if between > torch.pi - _PARALLEL:
        raise DataError("opposite ends have no shortest arc between them: choose others")
    if between < _PARALLEL:
        return (1 - t) * start + t * end
    return (torch.sin((1 - t) * between) * start + torch.sin(t * between) * end) / torch.sin(between)
