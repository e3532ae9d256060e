"""GEM: the mean of three self-self attentions, sharpened by the tokens' norm."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from tests.dense.methods._reference import beside, parts, softmax
from tests.dense.methods._towers import build, method, pictures, tower


def unit(points: Tensor) -> Tensor:
    return torch.stack([point / math.sqrt(float((point**2).sum())) for point in points])


def head(q: Tensor, k: Tensor, v: Tensor, inverse: float, iterations: int) -> Tensor:
    """What one head of one image puts out."""
    total = torch.zeros_like(v)
    for points in (q, k, v):
        for _ in range(iterations):
            points = unit(points)
            points = softmax(inverse * points @ points.T) @ points
        points = unit(points)
        total = total + softmax(inverse * points @ points.T) @ v
    return total / 3


def ensemble(block: Any, tokens: Tensor, iterations: int, fixed: float | None = None) -> Tensor:
    """What the self-self attention of one block adds to the second path."""
    images = []
    for image in range(len(tokens)):
        norms = block.ln_1(tokens)[image].norm(dim=1)
        size = tokens.shape[-1] // block.attn.num_heads
        inverse = float(norms.mean()) / math.sqrt(size) if fixed is None else fixed
        heads = [
            head(*parts(block, tokens, image, place), inverse, iterations)
            for place in range(block.attn.num_heads)
        ]
        images.append(torch.cat(heads, dim=1))
    out = block.attn.out_proj
    return torch.stack(images) @ out.weight.T + out.bias


@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("depth", [1, 6])
def test_it_is_the_mean_of_three_clustered_attentions(depth: int, iterations: int) -> None:
    pixels = pictures()
    expected = beside(build(), pixels, depth, lambda block, tokens: ensemble(block, tokens, iterations))
    found = method("gem", depth=depth, iterations=iterations)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_the_temperature_can_be_fixed() -> None:
    pixels = pictures()
    expected = beside(build(), pixels, 2, lambda block, tokens: ensemble(block, tokens, 1, fixed=7.0))
    found = method("gem", depth=2, inverse_temperature=7.0)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_the_defaults_are_the_released_ones() -> None:
    pixels = pictures(1)
    expected = method("gem", depth=6, iterations=1)(tower(), pixels).features
    assert torch.equal(method("gem")(tower(), pixels).features, expected)


@torch.no_grad()
def test_each_image_has_its_own_temperature() -> None:
    gem: Any = method("gem")
    block, visual = tower().blocks[-1], build()
    tokens = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    found = gem.sharpness(block, tokens, 16)
    normed = visual.transformer.resblocks[-1].ln_1(tokens)
    expected = torch.stack([normed[i].norm(dim=1).mean() / 4 for i in range(2)])
    assert found.shape == (2, 1, 1, 1)
    torch.testing.assert_close(found.flatten(), expected)
    assert abs(expected[0] - expected[1]) > 1e-3


@torch.no_grad()
def test_iterations_gather_tokens_in_clusters() -> None:
    """The paper's reading of self-self attention: repeated, it makes tokens of a group alike."""
    from patchclip.dense.methods.gem import GEM

    generator = torch.Generator().manual_seed(2)
    centres = 3 * torch.eye(8)[:2].repeat_interleave(4, dim=0)
    points = (centres + 0.8 * torch.randn(8, 8, generator=generator))[None, None]
    spread = []
    for iterations in (0, 4):
        mixed = GEM(iterations=iterations).mixed(points, points, 8.0)[0, 0].unflatten(0, (2, 4))
        spread.append(float((mixed - mixed.mean(dim=1, keepdim=True)).norm()))
    assert spread[1] < spread[0]


def test_options_out_of_range_are_refused() -> None:
    for options in ({"depth": 0}, {"iterations": -1}, {"inverse_temperature": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            method("gem", **options)
    with pytest.raises(ConfigError, match="depth=20 must be at most 12"):
        method("gem", depth=20)(tower(), pictures())
