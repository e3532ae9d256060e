"""A table of logits, and the mean cross-entropy of its rows: what contrastive losses are made of."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Targets = Int64[Tensor, " n"] | Float[Tensor, "n m"] | None


def widened(rows: Tensor) -> Tensor:
    """Numbers in float32, or in float64 where they are that already."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def table(
    image: Float[Tensor, "n e"], text: Float[Tensor, "m e"], scale: Tensor, bias: Tensor | None = None
) -> Float[Tensor, "n m"]:
    """Logits of every image with every text, in at least float32: s X T^t + bias."""
    logits = (widened(scale) * widened(image)) @ widened(text).T
    return logits if bias is None else logits + bias


def cross_entropy(
    logits: Float[Tensor, "n m"],
    targets: Targets = None,
    weights: Float[Tensor, " n"] | None = None,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean over the rows of -sum_j y_ij log softmax(logits_i)_j, in at least float32.

    Args:
        logits: a column at -inf takes no part in its row: neither in the softmax nor as a target.
        targets: the column of each row; or the share of each column, rows that sum to 1; or None where row i
            belongs to column i. A column that is a row's only target must not be -inf.
        weights: what each row counts, >= 0, for a weighted mean; 0 if all are 0. None: all rows alike.
        smoothing: share of the target that is spread over the row's columns, in [0, 1).

    Returns:
        0-d: float32, or float64 for float64 logits.
    """
    absent = logits == -torch.inf
    chances = torch.log_softmax(widened(logits), dim=1).masked_fill(absent, 0)  # n m
    if targets is None:
        each = -chances.diagonal()
    elif targets.ndim == 1:
        each = -chances.gather(1, targets[:, None])[:, 0]
    else:
        each = -(targets * chances).sum(dim=1)
    if smoothing:
        spread = -chances.sum(dim=1) / (~absent).sum(dim=1)
        each = (1 - smoothing) * each + smoothing * spread
    if weights is None:
        return each.mean()
    wide = weights.to(each.dtype)
    return (wide * each).sum() / wide.sum().clamp_min(torch.finfo(each.dtype).tiny)


def both_ways(logits: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """CLIP's loss of a square table: the mean of the cross-entropies of its rows and of its columns."""
    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2
