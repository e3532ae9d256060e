"""MaskCLIP: attention that is the identity."""

import pytest
import torch
from torch import Tensor, nn

from tests.dense.methods._reference import attention, finish, patches, until
from tests.dense.methods._towers import build, method, pictures, tower


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("mlp", [True, False])
def test_it_is_attention_with_the_identity(residual: bool, mlp: bool) -> None:
    def weights(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.eye(len(v))

    pixels = pictures()
    found = method("maskclip", residual=residual, mlp=mlp)(tower(), pixels).features
    torch.testing.assert_close(found, patches(build(), pixels, weights, residual, mlp), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_it_is_torch_s_attention_with_everything_but_the_diagonal_masked() -> None:
    visual, pixels = build(), pictures()
    tokens, block = until(visual, pixels, 1), visual.transformer.resblocks[-1]
    mask = torch.full((tokens.shape[1],) * 2, float("-inf")).fill_diagonal_(0)
    normed = block.ln_1(tokens)
    assert isinstance(block.attn, nn.MultiheadAttention)
    read = block.attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
    found = method("maskclip", residual=False, mlp=False)(tower(), pixels).features
    torch.testing.assert_close(found, finish(visual, read), atol=1e-5, rtol=1e-5)


def test_by_default_residual_and_mlp_stay() -> None:
    pixels = pictures()
    whole = method("maskclip", residual=True, mlp=True)(tower(), pixels).features
    assert torch.equal(method("maskclip")(tower(), pixels).features, whole)


@torch.no_grad()
def test_other_patches_do_not_enter_through_the_last_block() -> None:
    """The value of a token is its own: with the tokens shuffled, the values are shuffled."""
    visual, pixels = build(), pictures(1)
    tokens, block = until(visual, pixels, 1), visual.transformer.resblocks[-1]
    order = torch.randperm(tokens.shape[1], generator=torch.Generator().manual_seed(1))

    def identity(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.eye(len(v))

    read = tower().blocks[-1]
    shuffled = read.merge(read.qkv(tokens[:, order])[2])
    torch.testing.assert_close(shuffled, attention(block, tokens, identity)[:, order], atol=1e-4, rtol=1e-4)
