"""Random blocks of a grid of patches, for a whole batch at once and with an exact number of patches."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

STEPS = 12
"""Blocks drawn for one image at most: fixed, because waiting for the last one would be a host sync."""

DRAWS = 6
"""Random numbers a block needs."""


def random_block(
    area: Int64[Tensor, " b"], draws: Float[Tensor, "b n"], grid: tuple[int, int], min_aspect: float
) -> tuple[Bool[Tensor, "b l"], Float[Tensor, "b 2"]]:
    """One block of exactly `area` patches in each image, and its centre (row, column).

    Height round(sqrt(area * r)) with log r ~ U(log a, log 1/a), as far as the grid allows; width
    ceil(area / height). What is too much is taken from one outer column, left or right, from one end.
    """
    gh, gw = grid
    aspect = torch.exp(math.log(min_aspect) * (1 - 2 * draws[:, 0]))
    height = (area * aspect).sqrt().round().long()
    lowest = ((area + gw - 1) // gw).clamp_min(1)
    height = torch.minimum(torch.maximum(height, lowest), area.clamp(1, gh))
    width = (area + height - 1) // height
    top = (draws[:, 1] * (gh - height + 1)).long()
    left = (draws[:, 2] * (gw - width + 1)).long()
    row = torch.arange(gh, device=area.device) - top[:, None]  # b gh
    column = torch.arange(gw, device=area.device) - left[:, None]  # b gw
    rows = (row >= 0) & (row < height[:, None])
    columns = (column >= 0) & (column < width[:, None])
    row = torch.where(draws[:, 3, None] < 0.5, row, height[:, None] - 1 - row)
    column = torch.where(draws[:, 4, None] < 0.5, column, width[:, None] - 1 - column)
    place = column[:, None, :] * height[:, None, None] + row[:, :, None]
    block = rows[:, :, None] & columns[:, None, :] & (place < area[:, None, None])
    centre = torch.stack([top + (height - 1) / 2, left + (width - 1) / 2], dim=1)
    return block.flatten(1), centre


def random_blocks(
    area: int,
    draws: Float[Tensor, "b n"],
    grid: tuple[int, int],
    smallest: int,
    min_aspect: float,
) -> Bool[Tensor, "b l"]:
    """The union of random blocks, exactly `area` patches in each image.

    BEiT, algorithm 1 (N patches, M masked):
        repeat
            s = Rand(smallest, area - |M|)
            r = Rand(a, 1/a);  height = sqrt(s * r);  width = sqrt(s / r)
            M = M + the block at a random place
        until |M| = area
    A block never has more patches than are still wanted, so the last one is whole. If `STEPS` blocks are
    not enough (they overlap), the patches nearest to the last one are added.
    """
    gh, gw = grid
    steps = draws.unflatten(1, (STEPS, DRAWS)).unbind(dim=1)
    mask = torch.zeros(len(draws), gh * gw, dtype=torch.bool, device=draws.device)
    centre = torch.zeros(len(draws), 2, device=draws.device)
    for step in steps:
        wanted = area - mask.sum(dim=1)
        low = wanted.clamp_max(smallest)
        size = low + (step[:, 5] * (wanted - low + 1)).long()
        block, centre = random_block(size, step, grid, min_aspect)
        mask = mask | block
    row = torch.arange(gh, device=draws.device) - centre[:, 0, None]
    column = torch.arange(gw, device=draws.device) - centre[:, 1, None]
    distance = torch.hypot(row[:, :, None], column[:, None, :]).flatten(1)
    first = (mask * (gh + gw) - distance).topk(area, dim=1).indices
    return torch.zeros_like(mask).scatter_(1, first, True)
