"""Tiny random image towers of every kind that methods read, all with twelve blocks, and pictures for them."""

import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from patchclip import registry
from patchclip.contracts import Block, DenseMethod
from patchclip.heads.pacl import PACLHead
from patchclip.models.image_tower import Tower, image_tower

WIDTH, EMBEDDING, LAYERS, PATCH, SIDE = 32, 24, 12, 8, 32
MEAN, STD = (0.5, 0.4, 0.3), (0.3, 0.2, 0.25)
KINDS = ("native", "siglip", "registers")
"""A class token; none, with an attention pool; a class token and four registers."""
OPTIONS: dict[str, dict[str, Any]] = {"proxyclip": {"proxy": "test_vit", "pretrained": False}}
"""What a method needs to be built without a download, by name."""


class Visual(nn.Module):
    """What open_clip holds a timm tower in."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(WIDTH, EMBEDDING, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.head(self.trunk(pixels))
        return found


@cache
def original(kind: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(KINDS.index(kind))
        if kind == "native":
            visual: Any = OpenClipViT(SIDE, PATCH, WIDTH, LAYERS, 2, 4.0, output_dim=EMBEDDING)
        else:
            extra = {
                "siglip": {"class_token": False, "global_pool": "map"},
                "registers": {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.5},
            }[kind]
            trunk = TimmViT(SIDE, PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=2, num_classes=0, **extra)
            visual = Visual(trunk)
        for parameter in visual.parameters():  # the random start is too flat to tell methods apart
            nn.init.normal_(parameter, std=0.3)
    visual.preprocess_cfg = {"mean": MEAN, "std": STD}
    return visual.eval()


def build(kind: str = "native") -> Any:
    """A visual tower in eval mode; the same weights each time."""
    return copy.deepcopy(original(kind))


def tower(kind: str = "native", step: int | None = None) -> Tower:
    """The same, taken apart, with a random head."""
    head = PACLHead()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        head.build(WIDTH, EMBEDDING)
    return image_tower(build(kind), head, step)


def method(name: str, **options: Any) -> DenseMethod:
    """A dense method by name."""
    found: DenseMethod = registry.build("dense", name, **{**OPTIONS.get(name, {}), **options})
    return found


def pictures(b: int = 2, height: int = SIDE, width: int = SIDE, seed: int = 0) -> Tensor:
    """Noise."""
    return torch.randn(b, 3, height, width, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class OnesBlock:
    """A block whose values are all 1 and whose heads are only joined: what it adds are sums of weights."""

    inner: Block

    @property
    def heads(self) -> int:
        return self.inner.heads

    def normed(self, tokens: Tensor) -> Tensor:
        return self.inner.normed(tokens)

    def qkv(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.inner.qkv(tokens)
        return q, k, torch.ones_like(v)

    def merge(self, values: Tensor) -> Tensor:
        return values.transpose(1, 2).flatten(2)

    def mlp(self, tokens: Tensor) -> Tensor:
        return torch.zeros_like(tokens)

    def __call__(self, tokens: Tensor) -> Tensor:
        return tokens


@dataclass(frozen=True)
class OnesTower:
    """A tower of such blocks; its patches are not projected."""

    inner: Tower
    head: None = None
    blocks: tuple[OnesBlock, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(OnesBlock(block) for block in self.inner.blocks))

    @property
    def prefix(self) -> int:
        return self.inner.prefix

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.inner.normalisation

    def embed(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        return self.inner.embed(pixels)

    def norm(self, tokens: Tensor) -> Tensor:
        return tokens

    def finish(self, tokens: Tensor) -> Tensor:
        return tokens
