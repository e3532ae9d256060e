"""What a tower costs, read from the shapes of its weights: multiply-adds and what is kept for the backward.

A model is built on torch's meta device, so that no memory is taken, no weight drawn and nothing downloaded.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from torch import nn

from patchclip.errors import ConfigError, TowerError
from patchclip.models.architectures import configuration, merge, readable, resize


@dataclass(frozen=True)
class Tower:
    """One transformer tower in numbers; every number follows from the shapes of its weights.

    A block costs weights * n + 2 n^2 attended multiply-adds on n tokens: each entry of a weight matrix meets
    every token once, and attention multiplies queries with keys and weights with values.

    Args:
        parameters: of the whole tower.
        blocks: residual blocks.
        width: of a token.
        attended: heads times channels a head.
        weights: matrix entries of all blocks together.
        again: of them, those that checkpointing multiplies once more (see `recomputed`).
        saved: numbers that one block keeps for the backward, per token.
        stem: multiply-adds of the patch embedding, per patch; 0 for text, which looks its tokens up.
        pooled: matrix entries behind the blocks that meet the pooled token only.
        keys: matrix entries behind the blocks that meet every token (attention pooling).
        gathered: channels that attention pooling gathers into: queries times width; 0 without.
        prefix: tokens beside the patches or words (class, registers).
        patch: pixels a side of a patch; 0 for text.
    """

    parameters: int
    blocks: int
    width: int
    attended: int
    weights: int
    again: int
    saved: int
    stem: int
    pooled: int
    keys: int
    gathered: int
    prefix: int
    patch: int

    def blocks_macs(self, tokens: float) -> float:
        """Multiply-adds of the blocks on `tokens` tokens, prefix included."""
        return self.weights * tokens + 2 * self.blocks * self.attended * tokens**2

    def again_macs(self, tokens: float) -> float:
        """Multiply-adds of the blocks that gradient checkpointing does a second time."""
        return self.blocks_macs(tokens) - (self.weights - self.again) * tokens

    def head_macs(self, tokens: float) -> float:
        """Multiply-adds of pooling and projection."""
        return self.pooled + self.keys * tokens + 2 * self.gathered * tokens


@dataclass(frozen=True)
class Outline:
    """A CLIP in numbers: both towers, parameters in all, embedding width, image size and text tokens."""

    image: Tower
    text: Tower
    parameters: int
    width: int
    image_size: int
    context_length: int


def outline(
    name: str,
    *,
    image_size: int | None = None,
    context_length: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Outline:
    """The numbers of the model that `architectures.create` would build, without building it.

    Args:
        name: open_clip configuration.
        image_size: side of the input in pixels, None for the model's own.
        context_length: text tokens, None for the model's own.
        overrides: merged into the configuration.

    Raises:
        ConfigError: an unknown name or override, or a model whose configuration lies on a hub.
        TowerError: a tower without transformer blocks.
    """
    if name.startswith("hf-hub:"):
        raise ConfigError(f"model {name}: its configuration would be downloaded; use a name of open_clip")
    config = merge(configuration(name), overrides or {})
    resize(config, image_size, context_length)
    if "hf_model_name" in config["text_cfg"]:
        raise ConfigError(
            f"model {name}: the text tower {config['text_cfg']['hf_model_name']} would be downloaded; "
            "choose a model with open_clip's own text tower"
        )
    arguments = {key: copy.deepcopy(value) for key, value in config.items() if key != "custom_text"}
    with readable(name, None), torch.device("meta"):
        model = open_clip.create_model(
            name,
            load_weights=False,
            device="meta",
            force_custom_text=bool(config.get("custom_text", False)),
            force_image_size=image_size,
            force_context_length=context_length,
            **arguments,
        )
    return measure(model, config)


def measure(model: Any, config: Mapping[str, Any]) -> Outline:
    """The numbers of a built model, on any device.

    Args:
        model: from open_clip.
        config: its `model_cfg`.
    """
    size = model.visual.preprocess_cfg["size"]
    return Outline(
        image=image_tower(model.visual),
        text=text_tower(model),
        parameters=sum(p.numel() for p in model.parameters()),
        width=int(config["embed_dim"]),
        image_size=int(size if isinstance(size, int) else size[0]),
        context_length=int(config["text_cfg"].get("context_length", 77)),
    )


def image_tower(visual: Any) -> Tower:
    """The numbers of an image tower: open_clip's own ViT or one of timm's."""
    trunk = getattr(visual, "trunk", visual)
    blocks = getattr(trunk, "blocks", None) or getattr(getattr(trunk, "transformer", None), "resblocks", None)
    embedding = getattr(trunk, "patch_embed", None) or getattr(trunk, "conv1", None)
    if blocks is None or embedding is None or not hasattr(blocks[0], "attn"):
        raise TowerError(f"{type(trunk).__name__} is no ViT: its cost is not known; choose a ViT tower")
    prefix = int(getattr(trunk, "num_prefix_tokens", 1))
    stem, patch = stem_macs(embedding)
    return tower(dict(visual.named_parameters()), blocks, stem, patch, prefix)


def text_tower(model: Any) -> Tower:
    """The numbers of open_clip's own text tower, inside the model or beside the image tower."""
    text = getattr(model, "text", model)
    blocks = getattr(getattr(text, "transformer", None), "resblocks", None)
    if blocks is None:
        raise TowerError(
            f"{type(text).__name__}: the cost of this text tower is not known; use open_clip's own"
        )
    own = {n: p for n, p in text.named_parameters() if not n.startswith("visual.") and "logit_" not in n}
    return tower(own, blocks, 0, 0, int(getattr(text, "cls_emb", None) is not None))


def tower(own: dict[str, nn.Parameter], blocks: Any, stem: int, patch: int, prefix: int) -> Tower:
    """Sums the matrices of the blocks, and of what lies behind them, of a tower's parameters."""
    inside = {id(p) for p in blocks.parameters()}
    first = blocks[0]
    attention = first.attn
    width = int(first.ln_1.weight.numel() if hasattr(first, "ln_1") else first.norm1.weight.numel())
    heads, channels = int(attention.num_heads), int(attention.head_dim)
    behind = {n: p for n, p in own.items() if id(p) not in inside and multiplies(n, p)}
    keys = {n: p for n, p in behind.items() if is_key(n)}
    queries = next((p.shape[-2] for n, p in own.items() if n.endswith(("latent", "attn_pool.query"))), 1)
    pooling = sum(p.numel() for n, p in behind.items() if "attn_pool" in n and n not in keys)
    others = sum(p.numel() for n, p in behind.items() if "attn_pool" not in n)
    return Tower(
        parameters=sum(p.numel() for p in own.values()),
        blocks=len(blocks),
        width=width,
        attended=heads * channels,
        weights=sum(p.numel() for n, p in blocks.named_parameters() if multiplies(n, p)),
        again=sum(sum(recomputed(block)) for block in blocks),
        saved=saved_numbers(first, width, heads * channels),
        stem=stem,
        pooled=pooling * queries + others,
        keys=sum(p.numel() for p in keys.values()),
        gathered=queries * sum(p.shape[0] for p in keys.values()) // 2,
        prefix=prefix,
        patch=patch,
    )


def multiplies(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix that tokens are multiplied with, not one that is added or looked up."""
    return parameter.ndim == 2 and "embed" not in name and not name.endswith(("query", "latent"))


def recomputed(block: nn.Module) -> list[int]:
    """Entries of the matrices that checkpointing multiplies again.

    torch stops to recompute at the last tensor that the backward needs: the last matrix's input, unless its
    output is scaled (layer scale).
    """
    sizes = [p.numel() for name, p in block.named_parameters() if multiplies(name, p)]
    scales = [getattr(block, name, None) for name in ("ls_2", "ls2", "gamma_2")]
    scaled = any(scale is not None and not isinstance(scale, nn.Identity) for scale in scales)
    return sizes if scaled else sizes[:-1]


def is_key(name: str) -> bool:
    """Whether a matrix makes the keys or values of attention pooling."""
    last = name.removesuffix(".weight").rpartition(".")[2]
    return "attn_pool" in name and last in ("kv", "k_proj_weight", "v_proj_weight")


def saved_numbers(block: nn.Module, width: int, attended: int) -> int:
    """Numbers a pre-norm block keeps for its backward, per token.

    Input and output of both norms (4 width), queries, keys, values, the result of attention and its copy for
    the projection (5 attended), and the hidden layer before and after its activation (2 hidden).
    """
    hidden = sum(
        p.shape[0] for n, p in block.named_parameters() if p.ndim == 2 and "attn" not in n
    )  # all rows of the MLP's matrices: those of the hidden layer, and the last one's `width`
    return 4 * width + 5 * attended + 2 * (hidden - width)


def stem_macs(embedding: nn.Module) -> tuple[int, int]:
    """Multiply-adds a patch of the convolutions that embed it, and the side of a patch in pixels."""
    convolutions = list(strides(embedding))
    patch = math.prod(stride for _, stride in convolutions)
    macs, covered = 0, 1
    for weights, stride in convolutions:
        covered *= stride
        macs += weights * (patch // covered) ** 2
    return macs, patch


def strides(embedding: nn.Module) -> Iterator[tuple[int, int]]:
    """Weights and stride of each convolution, in order."""
    for module in embedding.modules():
        if isinstance(module, nn.Conv2d):
            yield module.weight.numel(), int(module.stride[0])
