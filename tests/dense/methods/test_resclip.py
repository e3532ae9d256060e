"""ResCLIP: middle attention blended into a base, and no map of it ever made."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from patchclip.dense.methods._attention import neighbourhood
from patchclip.errors import ConfigError
from tests.dense.methods._reference import finish, parts, products, softmax
from tests.dense.methods._towers import build, method, pictures, tower

Base = Callable[[Tensor, Tensor], Tensor]


def near(q: Tensor, k: Tensor) -> Tensor:
    return softmax(products(k, k) + neighbourhood((4, 4), 1, 5.0, torch.device("cpu")))


BASES: dict[str, Base] = {
    "naclip": near,
    "clearclip": lambda q, k: softmax(products(q, q)),
    "sclip": lambda q, k: softmax(products(q, q)) + softmax(products(k, k)),
}


@torch.no_grad()
def reference(pixels: Tensor, base: str, weight: float, tau: float, middle: range) -> Tensor:
    """Patch features by explicit maps [t, t] of one image."""
    visual = build()
    blocks, inputs = list(visual.transformer.resblocks), [visual._embeds(pixels)]
    for block in blocks:
        inputs.append(block(inputs[-1]))
    heads = []
    for head in range(2):
        maps = [softmax(products(*parts(blocks[i - 1], inputs[i - 1], 0, head)[:2])) for i in middle]
        q, k, v = parts(blocks[-1], inputs[-2], 0, head)
        blended = tau * ((1 - weight) * BASES[base](q, k) + weight * torch.stack(maps).mean(dim=0))
        heads.append(blended @ v)
    read = torch.cat(heads, dim=1)[None] @ blocks[-1].attn.out_proj.weight.T + blocks[-1].attn.out_proj.bias
    if base == "sclip":
        read = inputs[-2] + read
        read = read + blocks[-1].mlp(blocks[-1].ln_2(read))
    return finish(visual, read)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("first", "last"), [(6, 9), (3, 3)])
def test_it_blends_the_mean_map_of_middle_blocks(base: str, first: int, last: int) -> None:
    pixels = pictures(1)
    expected = reference(pixels, base, 0.3, 2.0, range(first, last + 1))
    found = method("resclip", base=base, weight=0.3, first=first, last=last)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_defaults_blend_blocks_six_to_nine_into_naclip() -> None:
    pixels = pictures(1)
    expected = reference(pixels, "naclip", 0.4, 2.0, range(6, 10))
    torch.testing.assert_close(method("resclip")(tower(), pixels).features, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("base", BASES)
def test_without_weight_and_factor_it_is_its_base(base: str) -> None:
    pixels = pictures()
    found = method("resclip", base=base, weight=0.0, tau=1.0)(tower(), pixels).features
    torch.testing.assert_close(found, method(base)(tower(), pixels).features, atol=1e-5, rtol=1e-5)


def test_with_all_the_weight_the_base_is_gone() -> None:
    pixels = pictures()
    found = [method("resclip", base=base, weight=1.0)(tower(), pixels).features for base in BASES]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_options_out_of_range_are_refused() -> None:
    cases = (
        {"base": "gem"},
        {"weight": 1.1},
        {"tau": 0.0},
        {"std": 0.0},
        {"first": 0},
        {"first": 7, "last": 6},
    )
    for options in cases:
        with pytest.raises(ConfigError, match=next(iter(options))):
            method("resclip", **options)


def test_a_shallow_tower_is_named() -> None:
    with pytest.raises(ConfigError, match="last=12 must be below 12, the blocks of this image tower"):
        method("resclip", last=12)(tower(), pictures())
