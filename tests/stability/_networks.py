"""Small networks with known gradients for the clipper tests."""

import torch
from torch import nn


def network(size: float = 1.0, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Module:
    """Three parameters with gradients of about `size`, one without, one that is frozen."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.ParameterDict(
        {
            "matrix": torch.zeros(4, 3, dtype=dtype),
            "vector": torch.zeros(5, dtype=dtype),
            "scalar": torch.zeros((), dtype=dtype),
            "unused": torch.zeros(2, dtype=dtype),
            "frozen": nn.Parameter(torch.zeros(2, dtype=dtype), requires_grad=False),
        }
    )
    for name in ("matrix", "vector", "scalar"):
        net[name].grad = size * torch.randn(net[name].shape, generator=generator).to(dtype)
    return net
