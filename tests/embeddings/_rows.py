"""Embeddings to test with."""

import torch
from torch import Tensor


def rows(count: int, width: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Rows off the origin whose numbers correlate and vary by different amounts."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator, dtype=torch.float64)
    drawn = torch.randn(count, width, generator=generator, dtype=torch.float64) @ mixed
    return (drawn + 2 * torch.randn(width, generator=generator, dtype=torch.float64)).to(dtype)
