"""Correlations that stand in for the attention of a block. Letters: t tokens, m heads, dm width of a head.

Every product of weights with values is one call of torch's attention, which holds no [b, m, t, t] tensor
where a fused kernel runs, and sums the softmax in float32 at any precision.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Heads = Float[Tensor, "b m t dm"]

KINDS = ("qk", "qq", "kk", "vv")
"""Which of queries, keys and values are compared."""


def attend(q: Heads, k: Heads, v: Heads, bias: Tensor | None = None, scale: float | None = None) -> Heads:
    """softmax(q k^T scale + bias) v for each head.

    Args:
        q: queries.
        k: keys.
        v: values.
        bias: [t, t], added before the softmax; None for nothing.
        scale: of the products; None for dm^-1/2.
    """
    bias = None if bias is None else bias.to(q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def correlate(kind: str, q: Heads, k: Heads, v: Heads, bias: Tensor | None = None) -> Heads:
    """Values mixed by one correlation of `KINDS`, at the block's own scale dm^-1/2."""
    parts = {"q": q, "k": k, "v": v}
    return attend(parts[kind[0]], parts[kind[1]], v, bias)


def neighbourhood(grid: tuple[int, int], prefix: int, std: float, device: torch.device) -> Tensor:
    """exp(-distance^2 / 2 std^2) of every two patches, float32 [t, t]; 0 where a prefix token takes part.

    Args:
        grid: rows and columns of patches.
        prefix: tokens before the patches.
        std: in patches.
        device: of the result.
    """
    rows, columns = (_gaussian(side, std, device) for side in grid)
    return F.pad(torch.kron(rows, columns), (prefix, 0, prefix, 0))  # patches stand row by row


def _gaussian(side: int, std: float, device: torch.device) -> Tensor:
    places = torch.arange(side, device=device, dtype=torch.float32)
    return (-((places[:, None] - places) ** 2) / (2 * std**2)).exp()
