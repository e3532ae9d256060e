"""open_clip's ViT by hand, token by token and head by head: what the methods are held against."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Weights = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values [t, dm] of one head of one image -> its weights [t, t]."""


def softmax(logits: Tensor) -> Tensor:
    """Rows that sum to 1, spelled out."""
    powers = torch.exp(logits - logits.max(dim=1, keepdim=True).values)
    return powers / powers.sum(dim=1, keepdim=True)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Scaled products of two of q, k, v."""
    return torch.stack([torch.stack([(x * y).sum() for y in b]) for x in a]) / math.sqrt(a.shape[1])


def parts(block: Any, tokens: Tensor, image: int, head: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v [t, dm] of one head, from the slices of the block's own weights."""
    attention, width = block.attn, tokens.shape[-1]
    size = width // attention.num_heads
    normed = block.ln_1(tokens)[image]
    found = []
    for place in range(3):
        rows = slice(place * width + head * size, place * width + (head + 1) * size)
        found.append(normed @ attention.in_proj_weight[rows].T + attention.in_proj_bias[rows])
    return found[0], found[1], found[2]


def attention(block: Any, tokens: Tensor, weights: Weights) -> Tensor:
    """What the block's attention adds to the tokens, with other weights."""
    images = []
    for image in range(len(tokens)):
        heads = []
        for head in range(block.attn.num_heads):
            q, k, v = parts(block, tokens, image, head)
            heads.append(weights(q, k, v) @ v)
        images.append(torch.cat(heads, dim=1))
    out = block.attn.out_proj
    return torch.stack(images) @ out.weight.T + out.bias


def until(visual: Any, pixels: Tensor, last: int) -> Tensor:
    """Tokens in front of the `last` blocks, by open_clip's own modules."""
    tokens = visual._embeds(pixels)
    for block in list(visual.transformer.resblocks)[: len(visual.transformer.resblocks) - last]:
        tokens = block(tokens)
    return tokens


def finish(visual: Any, tokens: Tensor) -> Tensor:
    """Patch features of the tokens."""
    return visual.ln_post(tokens[:, 1:]) @ visual.proj


@torch.no_grad()
def patches(visual: Any, pixels: Tensor, weights: Weights, residual: bool, mlp: bool) -> Tensor:
    """Patch features of a tower whose last block attends by other weights."""
    tokens, block = until(visual, pixels, 1), visual.transformer.resblocks[-1]
    read = attention(block, tokens, weights)
    if residual:
        read = tokens + read
    if mlp:
        read = read + block.mlp(block.ln_2(read))
    return finish(visual, read)


@torch.no_grad()
def beside(visual: Any, pixels: Tensor, depth: int, read: Callable[[Any, Tensor], Tensor]) -> Tensor:
    """Patch features of a second path beside the last blocks."""
    tokens = path = until(visual, pixels, depth)
    for block in list(visual.transformer.resblocks)[-depth:]:
        path = path + read(block, tokens)
        tokens = block(tokens)
    return finish(visual, path)
