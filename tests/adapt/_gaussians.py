"""Classes that are Gaussians of one covariance, and what is known of them."""

import torch
from torch import Tensor


def gaussians(
    classes: int = 4, width: int = 6, each: int = 40, seed: int = 0, apart: float = 2.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels and means, float64; the covariance is no multiple of the identity."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    means = apart * torch.randn(classes, width, generator=generator, dtype=torch.float64)
    labels = torch.arange(classes).repeat_interleave(each)
    noise = torch.randn(len(labels), width, generator=generator, dtype=torch.float64)
    return means[labels] + noise @ mix, labels, means
