"""CLIP-Surgery: value-value attention on a second path, and similarity without what labels share."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.errors import ConfigError
from tests.dense.methods._reference import attention, beside, finish, patches, products, softmax, until
from tests.dense.methods._towers import build, method, pictures, tower


def by_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return softmax(products(v, v))


def read(block: Any, tokens: Tensor) -> Tensor:
    return attention(block, tokens, by_values)


@pytest.mark.parametrize("depth", [1, 2, 6, 12])
def test_it_adds_value_value_attention_of_the_towers_own_path(depth: int) -> None:
    pixels = pictures(1)
    expected = beside(build(), pixels, depth, read)
    found = method("clip_surgery", depth=depth)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_the_default_depth_is_six() -> None:
    pixels = pictures(1)
    six = method("clip_surgery", depth=6)(tower(), pixels).features
    assert torch.equal(method("clip_surgery")(tower(), pixels).features, six)


def test_of_one_block_it_is_the_block_without_its_mlp() -> None:
    pixels = pictures()
    found = method("clip_surgery", depth=1)(tower(), pixels).features
    expected = patches(build(), pixels, by_values, residual=True, mlp=False)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_second_path_is_the_sum_of_what_its_blocks_add() -> None:
    """No block of the second path reads the second path."""
    visual, pixels = build(), pictures(1)
    path, blocks = until(visual, pixels, 3), visual.transformer.resblocks
    for place in range(-3, 0):
        path = path + read(blocks[place], until(visual, pixels, -place))
    found = method("clip_surgery", depth=3)(tower(), pixels).features
    torch.testing.assert_close(found, finish(visual, path), atol=1e-3, rtol=1e-3)


def test_similarity_is_the_sum_of_products_less_their_mean_over_labels() -> None:
    generator = torch.Generator().manual_seed(3)
    features, texts = (F.normalize(torch.randn(*s, 8, generator=generator), dim=-1) for s in [(2, 5), (4,)])
    products = features[:, :, None] * texts  # b l n e
    expected = (products - products.mean(dim=2, keepdim=True)).sum(dim=-1)
    surgery: Any = method("clip_surgery")
    found = surgery.similarity(features, texts)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=-1), torch.zeros(2, 5), atol=1e-6, rtol=0)
    assert torch.equal(found.argmax(dim=-1), (features @ texts.T).argmax(dim=-1))


def test_one_label_and_no_surgery_are_cosines() -> None:
    features, texts = torch.eye(3)[None], torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    surgery: Any = method("clip_surgery")
    torch.testing.assert_close(surgery.similarity(features, texts[:1]), texts[:1].T[None])
    plain: Any = method("clip_surgery", feature_surgery=False)
    torch.testing.assert_close(plain.similarity(features, texts), texts.T[None])


def test_depths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="depth=0 must be at least 1"):
        method("clip_surgery", depth=0)
    with pytest.raises(ConfigError, match="depth=13 must be at most 12: the blocks of this image tower"):
        method("clip_surgery", depth=13)(tower(), pictures())
