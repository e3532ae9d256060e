"""ClearCLIP: query-query attention alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from tests.dense.methods._reference import patches, products, softmax
from tests.dense.methods._towers import build, method, pictures, tower

WEIGHTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "qq": lambda q, k, v: softmax(products(q, q)),
    "kk": lambda q, k, v: softmax(products(k, k)),
    "vv": lambda q, k, v: softmax(products(v, v)),
    "qk": lambda q, k, v: softmax(products(q, k)),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_it_is_self_self_attention_without_residual_and_mlp(kind: str) -> None:
    pixels = pictures()
    expected = patches(build(), pixels, WEIGHTS[kind], residual=False, mlp=False)
    found = method("clearclip", attention=kind)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_default_is_query_query() -> None:
    pixels = pictures()
    expected = method("clearclip", attention="qq", residual=False, mlp=False)(tower(), pixels).features
    assert torch.equal(method("clearclip")(tower(), pixels).features, expected)


def test_with_its_own_attention_residual_and_mlp_it_is_the_tower() -> None:
    pixels = pictures()
    found = method("clearclip", attention="qk", residual=True, mlp=True)(tower(), pixels).features
    torch.testing.assert_close(found, method("raw")(tower(), pixels).features, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("residual", [True, False])
def test_parts_of_the_block_come_back_one_by_one(residual: bool) -> None:
    pixels = pictures()
    expected = patches(build(), pixels, WEIGHTS["qq"], residual, mlp=not residual)
    found = method("clearclip", residual=residual, mlp=not residual)(tower(), pixels).features
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_unknown_attention_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"attention='qv' must be one of qk, qq, kk, vv"):
        method("clearclip", attention="qv")


def test_it_weighs_a_patch_by_itself_most() -> None:
    """The paper's reason for self-self attention: q q^T is largest where a patch meets its own like."""
    tokens = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(1))
    block = tower().blocks[-1]
    q, _, _ = block.qkv(tokens)
    weights = (q @ q.transpose(2, 3)).softmax(dim=-1)
    assert (weights.diagonal(dim1=2, dim2=3) > 1 / 6).float().mean() > 0.9
