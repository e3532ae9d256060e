"""Small models of every kind of image tower, and pictures for them."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

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
    "eva-registers": (
        "EVA02-B-16",
        timm_tower("vit_tiny_patch16_dinov3_qkvb", 256),
    ),  # 5 tokens before the patches
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


@cache
def original(kind: str, seed: int) -> Architecture:
    name, overrides = {**TOWERS, **CANNOT_DROP}[kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        architecture = create(name, overrides=overrides)
    if kind.startswith("eva"):  # the smallest ones have twelve blocks
        architecture.model.visual.trunk.blocks = architecture.model.visual.trunk.blocks[:2]
    return architecture


def build(kind: str = "native", seed: int = 0) -> Architecture:
    """A model of one kind in train mode, the same weights for the same seed."""
    found = original(kind, seed)
    return replace(found, model=copy.deepcopy(found.model))


def encoder(kind: str = "native", seed: int = 0) -> ClipEncoder:
    """A fresh encoder in eval mode."""
    architecture = build(kind, seed)
    architecture.model.eval()
    return ClipEncoder(architecture)


def pictures(architecture: Architecture, b: int = 2, seed: int = 0) -> Tensor:
    """Noise of the size that the model expects."""
    side = architecture.image_size
    return torch.randn(b, 3, side, side, generator=torch.Generator().manual_seed(seed))


def embed(model: nn.Module, pixels: Tensor) -> Tensor:
    """Image embeddings [b, e], not normalised."""
    found: Tensor = model.encode_image(pixels)
    return found


def hooks(model: nn.Module) -> int:
    """Forward-pre-hooks in the whole model."""
    return sum(len(module._forward_pre_hooks) for module in model.modules())


def native(visual: nn.Module, pixels: Tensor, keep: Tensor) -> Tensor:
    """open_clip's ViT by hand on the patches `keep` [b, k]."""
    tokens = visual.conv1(pixels).flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(tokens), 1, -1)
    kept = torch.stack([tokens[i, keep[i]] for i in range(len(tokens))])
    out = visual.transformer(visual.ln_pre(torch.cat([first, kept], dim=1)))
    return visual.ln_post(out[:, 0]) @ visual.proj
