"""Small models of every kind of image tower, and pictures for them."""

from typing import Any

import torch
from torch import Tensor

from patchclip.models.architectures import Architecture, create
from patchclip.models.towers import ClipEncoder

TEXT = {"layers": 1, "width": 64, "heads": 2, "context_length": 16, "vocab_size": 49408}
NATIVE = {"layers": 2, "width": 64, "image_size": 32, "patch_size": 8, "head_width": 32}
TINY: dict[str, Any] = {"embed_dim": 32, "vision_cfg": NATIVE, "text_cfg": TEXT}


def timm_tower(name: str, size: int, pool: str = "") -> dict[str, Any]:
    """Overrides of EVA02-B-16, open_clip's timm configuration with a tokenizer that needs no download."""
    vision = {"timm_model_name": name, "timm_pool": pool, "timm_proj": "linear", "image_size": size}
    return {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT}


TOWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "native": ("ViT-Ti-16", TINY),
    "native-avg": (
        "ViT-Ti-16",
        {**TINY, "vision_cfg": {**NATIVE, "pool_type": "avg", "final_ln_after_pool": True}},
    ),
    "native-attention": ("ViT-Ti-16", {**TINY, "vision_cfg": {**NATIVE, "attentional_pool": True}}),
    "timm": ("EVA02-B-16", timm_tower("test_vit", 160)),  # class token
    "timm-avg": ("EVA02-B-16", timm_tower("test_vit2", 160)),  # register token, mean of the patches
    "timm-map": ("EVA02-B-16", timm_tower("test_vit3", 160)),  # attention pool
    "eva": ("EVA02-B-16", timm_tower("eva02_tiny_patch14_224", 224)),  # rotary positions
}
"""Kind -> (name, overrides) of towers that can drop tokens."""

CANNOT_DROP: dict[str, tuple[str, dict[str, Any]]] = {
    "convnext": ("convnext_base", timm_tower("test_convnext", 160)),
    "resnet": (
        "RN50",
        {
            "embed_dim": 32,
            "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 32},
            "text_cfg": TEXT,
        },
    ),
}


def build(kind: str = "native", seed: int = 0) -> Architecture:
    """The model of one kind, the same weights for the same seed."""
    name, overrides = {**TOWERS, **CANNOT_DROP}[kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return create(name, overrides=overrides)


def encoder(kind: str = "native", seed: int = 0) -> ClipEncoder:
    """A fresh encoder in eval mode."""
    architecture = build(kind, seed)
    architecture.model.eval()
    return ClipEncoder(architecture)


def pictures(architecture: Architecture, b: int = 2, seed: int = 0) -> Tensor:
    """Noise of the size that the model expects."""
    side = architecture.image_size
    return torch.randn(b, 3, side, side, generator=torch.Generator().manual_seed(seed))
