"""Unit-length embeddings for the loss tests."""

import torch
import torch.nn.functional as F
from torch import Tensor


def embeddings(
    b: int, e: int = 16, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Image and text [b, e], somewhat alike pair by pair, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(b, e, generator=generator, dtype=torch.float64)
    text = image + torch.randn(b, e, generator=generator, dtype=torch.float64)
    image, text = (F.normalize(x, dim=-1).to(dtype).requires_grad_() for x in (image, text))
    return image, text


def scalar(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(value, dtype=dtype, requires_grad=True)
