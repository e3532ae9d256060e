"""SCLIP: query-query and key-key attention, added."""

import torch
from torch import Tensor

from tests.dense.methods._reference import patches, products, softmax
from tests.dense.methods._towers import build, method, pictures, tower


def both(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return softmax(products(q, q)) + softmax(products(k, k))


def test_it_is_the_sum_of_two_correlations_with_residual_and_mlp() -> None:
    pixels = pictures()
    expected = patches(build(), pixels, both, residual=True, mlp=True)
    torch.testing.assert_close(method("sclip")(tower(), pixels).features, expected, atol=1e-4, rtol=1e-4)


def test_it_is_not_their_mean() -> None:
    """Both are added, not averaged: the layer before the residual counts twice."""
    pixels = pictures()
    mean = patches(build(), pixels, lambda q, k, v: both(q, k, v) / 2, residual=True, mlp=True)
    assert (method("sclip")(tower(), pixels).features - mean).abs().mean() > 0.01


@torch.no_grad()
def test_with_equal_tokens_it_is_twice_their_value() -> None:
    """Where every token is the same, every weight is 1 / t, and twice the value is what comes out."""
    from patchclip.dense.methods.sclip import _both

    q, v = torch.ones(1, 2, 5, 4), torch.randn(1, 2, 1, 4).expand(-1, -1, 5, -1)
    torch.testing.assert_close(_both(q, q, v), 2 * v)
