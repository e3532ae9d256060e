"""Parts of embeddings: heat maps and mean-ablation."""

from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError, DataError
from patchclip.geometry.explanations._parts import Parts, joined


def parts(b: int = 4, tokens: int = 7, heads: int = 2, seed: int = 0) -> Parts:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(b, *shape, generator=generator, dtype=torch.float64)

    return Parts(draw(3, tokens, heads, 5), draw(3, 5), draw(5), draw(5), 2, 1, (2, 3))


def test_the_heat_of_a_text_is_the_product_of_each_patch_with_it() -> None:
    found, texts = parts(), torch.randn(3, 5, dtype=torch.float64)
    heat = found.heat(texts)
    assert heat.shape == (4, 3, 2, 3)
    for image, text, row, column in [(0, 0, 0, 0), (3, 2, 1, 2), (1, 1, 0, 2)]:
        place = 1 + row * 3 + column
        expected = sum(
            float(found.attention[image, layer, place, head] @ texts[text])
            for layer in range(3)
            for head in range(2)
        )
        assert float(heat[image, text, row, column]) == pytest.approx(expected)
    some = found.heat(texts, layers=[2, 4])
    torch.testing.assert_close(some + found.heat(texts, layers=[3]), heat)


def test_the_heats_and_all_other_products_are_the_embeddings_product() -> None:
    found, texts = parts(), torch.randn(2, 5, dtype=torch.float64)
    rest = found.attention[:, :, :1].sum(dim=(1, 2, 3)) + found.mlp.sum(dim=1) + found.start + found.bias
    torch.testing.assert_close(found.heat(texts).sum(dim=(2, 3)) + rest @ texts.T, found.total() @ texts.T)


def test_ablation_puts_the_mean_in_the_place_of_a_summand() -> None:
    found = parts()
    torch.testing.assert_close(found.ablated(), found.total())
    mlp = found.mlp[:, 1]
    torch.testing.assert_close(found.ablated(mlps=[3]), found.total() - mlp + mlp.mean(dim=0))
    head = found.attention[:, 0, :, 1].sum(dim=1)
    torch.testing.assert_close(found.ablated(heads=[(2, 1)]), found.total() - head + head.mean(dim=0))
    first = found.attention[:, :, 0].sum(dim=(1, 2))
    torch.testing.assert_close(found.ablated(prefix=True), found.total() - first + first.mean(dim=0))


def test_a_summand_that_is_named_twice_is_replaced_once() -> None:
    found = parts()
    layer = found.ablated(layers=[4])
    torch.testing.assert_close(found.ablated(layers=[4, 4], heads=[(4, 0)], mlps=[]), layer)
    torch.testing.assert_close(found.ablated(mlps=[2, 2]), found.ablated(mlps=[2]))


def test_with_everything_ablated_all_images_are_one_but_for_start_and_bias() -> None:
    found = parts()
    same = found.ablated(layers=[2, 3, 4], mlps=[2, 3, 4]) - found.start - found.bias
    torch.testing.assert_close(same, same[:1].expand_as(same))


def test_means_may_be_of_other_images() -> None:
    found, others = parts(), parts(b=6, seed=1)
    expected = found.total() - found.mlp[:, 0] + others.mlp[:, 0].mean(dim=0)
    torch.testing.assert_close(found.ablated(mlps=[2], means=others), expected)
    with pytest.raises(DataError, match="must be decomposed as these parts are"):
        found.ablated(mlps=[2], means=parts(heads=1))


def test_parts_of_more_images_are_joined_in_order() -> None:
    first, second = parts(), parts(b=1, seed=1)
    both = joined([first, second])
    torch.testing.assert_close(both.total(), torch.cat([first.total(), second.total()]))
    assert (both.first, both.prefix, both.grid) == (2, 1, (2, 3))


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"layers": [1]}, ConfigError, r"layer 1 must be in \[2, 5\)"),
        ({"mlps": [5]}, ConfigError, r"layer 5 must be in \[2, 5\)"),
        ({"heads": [(2, 2)]}, ConfigError, r"head 2 must be in \[0, 2\)"),
    ],
)
def test_what_is_not_there_cannot_be_ablated(asked: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        parts().ablated(**asked)


def test_sums_cannot_be_told_apart_again() -> None:
    summed, texts = parts(tokens=1, heads=1), torch.randn(2, 5)
    with pytest.raises(DataError, match="decompose with tokens=True"):
        summed.heat(texts)
    with pytest.raises(DataError, match="tokens=True"):
        summed.ablated(prefix=True)
    with pytest.raises(DataError, match="heads=True"):
        summed.ablated(heads=[(2, 0)])
    with pytest.raises(DataError, match=r"texts of shape \(2, 4\) must be \[n, 5\]"):
        parts().heat(texts[:, :4])
    with pytest.raises(ConfigError, match="layer 7"):
        parts().heat(texts, layers=[7])
