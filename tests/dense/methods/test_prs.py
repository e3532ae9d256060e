"""PRS: patches as what they add to the image embedding."""

from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError, TowerError
from patchclip.models.image_tower import image_tower
from tests.dense.methods._reference import parts, products, softmax
from tests.dense.methods._towers import KINDS, OnesTower, build, method, pictures, tower


@torch.no_grad()
def by_hand(visual: Any, pixels: Tensor, last: int) -> Tensor:
    """Sum over heads of what each patch writes to the class token, through the norm and the projection."""
    tokens, total = visual._embeds(pixels), torch.zeros(len(pixels), 16, 32)
    blocks = list(visual.transformer.resblocks)
    for place, block in enumerate(blocks):
        if place >= len(blocks) - last:
            for image in range(len(pixels)):
                for head in range(block.attn.num_heads):
                    q, k, v = parts(block, tokens, image, head)
                    weights = softmax(products(q[:1], k))[0, 1:]
                    size = v.shape[1]
                    out = block.attn.out_proj.weight[:, head * size : (head + 1) * size]
                    total[image] += weights[:, None] * v[1:] @ out.T
        tokens = block(tokens)
    end = tokens[:, :1]
    deviation = (end.var(dim=2, correction=0, keepdim=True) + visual.ln_post.eps).sqrt()
    centred = (total - total.mean(dim=2, keepdim=True)) / deviation
    found: Tensor = centred * visual.ln_post.weight @ visual.proj
    return found


@pytest.mark.parametrize("last", [1, 3, None])
def test_a_patch_is_what_it_writes_to_the_class_token(last: int | None) -> None:
    pixels = pictures()
    expected = by_hand(build(), pixels, last or 12)
    found = method("prs", last=last)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_patches_and_all_else_are_the_image_embedding(kind: str) -> None:
    """Without what other tokens, MLPs and biases add, computed as what is left of the linear readout."""
    visual, pixels = build(kind).double(), pictures().double()
    read: Any = image_tower(visual)
    tokens, rest = read.embed(pixels)[0], []
    for block in read.blocks:
        q, k, v = block.qkv(tokens)
        v[:, :, read.prefix :] = 0  # what stays of attention where patches add nothing
        attended = block.merge((q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v)
        after = block(tokens)
        q, k, v = block.qkv(tokens)
        whole = block.merge((q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v)
        rest.append(after - tokens - whole + attended)
        tokens = after
    readout = read.readout(tokens)
    start = read.embed(pixels)[0]
    others = readout.direct((start + sum(rest))[:, readout.places]) + readout.bias
    total = method("prs")(read, pixels).features.sum(dim=1) + others
    torch.testing.assert_close(total, visual(pixels), atol=1e-9, rtol=1e-9)


def test_layers_add_up() -> None:
    pixels = pictures(1)
    every, one, two = (method("prs", last=last)(tower(), pixels).features for last in (None, 1, 2))
    assert not torch.allclose(one, two)
    assert torch.equal(every, method("prs", last=12)(tower(), pixels).features)


def test_depths_and_towers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="last=0 must be at least 1"):
        method("prs", last=0)
    with pytest.raises(ConfigError, match="last=13 must be at most 12: the layers of this image tower"):
        method("prs", last=13)(tower(), pictures())
    with pytest.raises(TowerError, match="OnesTower does not say how it pools"):
        method("prs")(OnesTower(tower()), pictures())
