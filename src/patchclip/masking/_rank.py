"""Ranking patches by scores, so that neither rounding nor the order of the patches decides."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def ranking(score: Float[Tensor, "b n"], noise: Float[Tensor, "b n"]) -> Int64[Tensor, "b n"]:
    """Indices in the order of falling score; equal scores stand in the order of `noise`, which is drawn."""
    drawn = noise.to(score.device).argsort(dim=1)
    order = score.float().gather(1, drawn).argsort(dim=1, descending=True, stable=True)
    return drawn.gather(1, order)


def ranks(order: Int64[Tensor, "b n"]) -> Int64[Tensor, "b n"]:
    """The place of each index in a ranking, 0 for the first."""
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.zeros_like(order).scatter(1, order, places)
