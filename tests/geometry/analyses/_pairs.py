"""Pairs of embeddings like those of a CLIP: two clouds off the origin that share what they depict."""

import torch
from torch import Tensor


def pairs(
    count: int, width: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Image and text rows; the clouds lie apart."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shared, center = draw(count, width), 2 * draw(2, width)
    image = shared @ draw(width, width) + 0.3 * draw(count, width) + center[0]
    text = shared @ draw(width, width) + 0.3 * draw(count, width) + center[1]
    return image.to(dtype), text.to(dtype)


def sphere(count: int, width: int, seed: int = 0) -> Tensor:
    """Rows spread evenly over the sphere."""
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1)
