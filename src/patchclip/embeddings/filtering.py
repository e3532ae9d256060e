"""Filtering by a score: which rows to keep."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError, DataError


def kept(scores: Float[Tensor, "n"], share: float) -> Int64[Tensor, "k"]:
    """The rows with the best scores, in their own order.

    Args:
        scores: of the rows, higher is better; of equal ones the earlier row goes first.
        share: of the rows, in (0, 1]; rounded down to whole rows, one at least.

    Raises:
        ConfigError: a share outside its range.
        DataError: no scores, or NaN among them.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share={share} must be in (0, 1]: the share of the rows that are kept")
    if not len(scores) or scores.isnan().any():
        bad = int(scores.isnan().sum())
        raise DataError(f"{len(scores)} scores, {bad} of them NaN: a filter needs a number for every row")
    count = max(1, int(share * len(scores) + 1e-9))
    order = torch.sort(scores.detach(), descending=True, stable=True).indices
    return order[:count].sort().values
