"""Embeddings seen through the principal components of their batch."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

NEAR = 1e-4
"""Difference of two squared singular values, as a share of the largest, below which they count as equal."""


def principal(rows: Float[Tensor, "b e"], components: int) -> Float[Tensor, "b e"]:
    """The rows rebuilt from the `components` principal components of the batch, mean added back.

    Y = mean + (X - mean) V_k V_k^T, with the k right singular vectors of X - mean of largest value

    The gradient is that of the formula, through the components too. A batch of rank k or less is given back
    as it is. Computed in float32 (float64 for float64), given in the dtype of the rows; rows that are not
    finite give NaN.
    """
    if components >= min(len(rows) - 1, rows.shape[1]):
        return rows
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    mean = wide.mean(dim=0)
    with torch.autocast(rows.device.type, enabled=False):
        rebuilt: Tensor = Truncated.apply(wide - mean, components)
    return (mean + rebuilt).to(rows.dtype)


class Truncated(torch.autograd.Function):
    """The nearest matrix of rank k, sum_(i <= k) s_i u_i v_i^T, with a gradient that stays finite.

    With A = U^T dX V in full bases and the gap g = s_i^2 - s_j^2 of i <= k < j:
    dY_ij = A_ij + s_j (s_j A_ij + s_i A_ji) / g and dY_ji = A_ji + s_j (s_j A_ji + s_i A_ij) / g; within
    the first k dY = A, within the others dY = 0. The map is its own adjoint. Differentiating torch's SVD
    divides by the gaps among the first k too, which cancel in exact numbers and are infinite where two are
    equal; here only the gap at the cut counts, and where that is (nearly) zero its term is left out.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kept: int) -> Tensor:
        """The truncated matrix, [b, e]."""
        finite = rows.isfinite().all()
        u, s, vt = torch.linalg.svd(torch.where(finite, rows, 0.0), full_matrices=False)
        ctx.save_for_backward(u, s, vt)
        ctx.kept = kept
        rebuilt = (u[:, :kept] * s[:kept]) @ vt[:kept]
        return torch.where(finite, rebuilt, torch.nan)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The gradient at the rows."""
        (grad,) = grads
        u, s, vt = ctx.saved_tensors
        k = ctx.kept
        first, rest, of_rows, of_columns = u[:, :k], u[:, k:], vt[:k], vt[k:]
        large, small = s[:k, None], s[None, k:]
        gap = large**2 - small**2  # k r
        share = torch.where(gap > NEAR * s[0] ** 2, 1 / gap, 0.0) * small
        upper, lower = first.T @ grad @ of_columns.T, (rest.T @ grad @ of_rows.T).T  # k r each
        left, right = first.T @ grad, grad @ of_rows.T  # k e, b k
        fixed = first @ left + right @ of_rows - first @ (left @ of_rows.T) @ of_rows
        turned = first @ (share * (small * upper + large * lower)) @ of_columns
        turned = turned + rest @ (share * (small * lower + large * upper)).T @ of_rows
        return fixed + turned, None
