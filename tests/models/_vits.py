"""Tiny image towers of open_clip and timm, built part by part, with random weights that are not flat."""

from typing import Any

import torch
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

NO_CLASS = {"class_token": False, "global_pool": "map"}
REGISTERS = {"reg_tokens": 4, "no_embed_class": True}


class Visual(nn.Module):
    """What open_clip holds a timm tower in."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(24, 16, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.head(self.trunk(pixels))
        return found


def scattered(module: nn.Module, seed: int = 0) -> Any:
    """The module in eval mode with random weights that are not flat."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def open_clip_tower(side: int = 32, **options: Any) -> Any:
    return scattered(OpenClipViT(side, 8, 24, 3, 2, 2.0, output_dim=16, **options))


def timm_tower(side: int = 32, patch: int | tuple[int, int] = 8, **options: Any) -> Any:
    trunk = TimmViT(side, patch, embed_dim=24, depth=3, num_heads=2, num_classes=0, **options)
    return scattered(Visual(trunk))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))
