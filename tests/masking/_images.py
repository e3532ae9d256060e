"""Pictures and tokens for the masking tests, all from seeds."""

import torch
from torch import Tensor


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(b: int, side: int, seed: int = 0) -> Tensor:
    """White noise [b, 3, side, side]."""
    return torch.randn(b, 3, side, side, generator=rng(seed))


def tokens(b: int, patches: int, seed: int = 0, width: int = 8) -> Tensor:
    """Random tokens [b, patches, width]."""
    return torch.randn(b, patches, width, generator=rng(1000 + seed))


def dropped(keep: Tensor, patches: int) -> Tensor:
    """Indices kept [b, k] as a boolean mask [b, l] of the patches dropped."""
    return torch.ones(len(keep), patches, dtype=torch.bool).scatter_(1, keep, False)


def deviation(mask: Tensor, side: int) -> float:
    """Largest deviation of any row's or column's dropped count from its share, in standard errors."""
    grid = mask.float().unflatten(1, (side, side))
    counts = torch.cat([grid.sum(dim=2), grid.sum(dim=1)], dim=1)  # b, 2 * side
    expected = mask.float().sum(dim=1).mean() / side
    error = counts.std(dim=0) / len(mask) ** 0.5
    return float(((counts.mean(dim=0) - expected) / error).abs().max())
