"""Blocks taken apart: put together again, their parts are the block."""

import math
from typing import Any

import pytest
import torch
from open_clip.transformer import CustomResidualAttentionBlock
from torch import Tensor

from patchclip.models.image_blocks import OpenClipBlock, TimmBlock
from patchclip.models.image_tower import image_tower
from tests.models._vits import noise, open_clip_tower, timm_tower


def assert_block_is_its_parts(block: Any, tokens: Tensor) -> None:
    q, k, v = block.qkv(tokens)
    assert q.shape == k.shape == v.shape == (2, 2, 7, 12)
    weights = (q @ k.transpose(2, 3) / math.sqrt(12)).softmax(dim=-1)
    whole = tokens + block.merge(weights @ v)
    whole = whole + block.mlp(whole)
    torch.testing.assert_close(whole, block(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ls_init_value": 0.1},
        *({name: True} for name in ("qk_norm", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")),
    ],
)
@torch.no_grad()
def test_open_clips_blocks_are_their_parts(options: dict[str, Any]) -> None:
    visual = open_clip_tower(**options)
    assert isinstance(visual.transformer.resblocks[0], CustomResidualAttentionBlock) == any(
        value is True for value in options.values()
    )
    block = image_tower(visual).blocks[1]
    assert isinstance(block, OpenClipBlock)
    assert_block_is_its_parts(block, noise(2, 7, 24))


@pytest.mark.parametrize(
    "options",
    [{}, {"init_values": 0.1}, {"qk_norm": True}, {"scale_attn_norm": True}, {"scale_mlp_norm": True}],
)
@torch.no_grad()
def test_timms_blocks_are_their_parts(options: dict[str, Any]) -> None:
    block = image_tower(timm_tower(**options)).blocks[1]
    assert isinstance(block, TimmBlock)
    assert_block_is_its_parts(block, noise(2, 7, 24))


@pytest.mark.parametrize("visual", [open_clip_tower(), timm_tower()])
@torch.no_grad()
def test_queries_keys_and_values_are_made_of_the_normed_tokens(visual: Any) -> None:
    block: Any = image_tower(visual).blocks[0]
    tokens = noise(2, 7, 24)
    norm = block.block.ln_1 if isinstance(block, OpenClipBlock) else block.block.norm1
    torch.testing.assert_close(block.normed(tokens), norm(tokens))


@torch.no_grad()
def test_a_block_that_puts_tokens_first_is_its_parts() -> None:
    visual = open_clip_tower()
    visual.transformer.batch_first = False
    for block in visual.transformer.resblocks:
        block.attn.batch_first = False
    assert_block_is_its_parts(image_tower(visual).blocks[0], noise(2, 7, 24))
