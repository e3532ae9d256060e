"""Singular values of weights: exact at the start, gradients, which matrices, and heads."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchclip.adapt.head_changes import head_spectra, ranked_heads
from patchclip.adapt.methods._singular import matrices, singular
from patchclip.errors import DataError, TowerError
from patchclip.models.blocks import find_blocks
from tests.adapt._labelled import KINDS, generator, model_of
from tests.models._tiny import CANNOT_DROP, TOWERS


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (1, 4), (4, 1), (1, 1)])
def test_the_factors_are_those_of_the_weight(shape: tuple[int, int]) -> None:
    weight = drawn(*shape)
    found = singular(weight)
    k = min(shape)
    assert found.values.shape == (1, k)
    left, right = found.left[0], found.right[0]
    torch.testing.assert_close(left @ torch.diag(found.values[0].detach()) @ right, weight)
    torch.testing.assert_close(left.T @ left, torch.eye(k, dtype=torch.float64))
    torch.testing.assert_close(right @ right.T, torch.eye(k, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("parts", [1, 3])
def test_at_the_start_it_is_the_weight_bit_for_bit(parts: int, dtype: torch.dtype) -> None:
    weight = drawn(12, 5, dtype=dtype)
    found = singular(weight, parts)
    assert torch.equal(found.merged(), weight)
    assert found.merged().dtype == dtype
    assert found.values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_what_is_merged_has_the_new_values() -> None:
    weight = drawn(6, 4)
    found = singular(weight)
    new = torch.tensor([[9.0, 5.0, 2.0, 0.0]], dtype=torch.float64)
    found.values.data.copy_(new)
    torch.testing.assert_close(torch.linalg.svdvals(found.merged().detach()), new[0])
    expected = found.left[0] @ torch.diag(new[0]) @ found.right[0]
    torch.testing.assert_close(found.merged().detach(), expected)


def test_fused_queries_keys_and_values_are_three_matrices() -> None:
    weight = drawn(12, 4)
    found = singular(weight, parts=3)
    assert found.values.shape == (3, 4)
    for part in range(3):
        own = weight[4 * part : 4 * part + 4]
        torch.testing.assert_close(found.start[part], torch.linalg.svdvals(own))
    found.values.data[1] *= 2
    merged = found.merged().detach()
    torch.testing.assert_close(merged[4:8], 2 * weight[4:8])
    assert torch.equal(merged[:4], weight[:4])
    assert torch.equal(merged[8:], weight[8:])


def test_the_gradient_is_that_of_the_factors() -> None:
    """dL/ds = diag(U^T G V), of G = dL/dW; it never goes through the decomposition."""
    weight, outside = drawn(6, 4), drawn(6, 4).flip(0)
    found = singular(weight, parts=2)
    (found.merged() * outside).sum().backward()
    by_hand = [torch.diag(found.left[p].T @ outside[3 * p : 3 * p + 3] @ found.right[p].T) for p in range(2)]
    torch.testing.assert_close(found.values.grad, torch.stack(by_hand))


def test_gradients_are_those_of_differences() -> None:
    found = singular(drawn(5, 3))
    inputs = drawn(2, 3)

    def output(values: Tensor) -> Tensor:
        weight = (found.left * (values - found.start)[:, None]) @ found.right
        return inputs @ (found.weight + weight[0]).T

    assert torch.autograd.gradcheck(output, drawn(1, 3).requires_grad_())
    torch.testing.assert_close(output(found.values), inputs @ found.merged().T)


@pytest.mark.parametrize("weight", [torch.zeros(4, 4), torch.eye(4), torch.ones(4, 4)])
def test_equal_and_zero_singular_values_are_no_trouble(weight: Tensor) -> None:
    """The gradient of a decomposition is infinite there; here the vectors are constants."""
    found = singular(weight)
    assert torch.equal(found.merged(), weight)
    (found.merged() * drawn(4, 4, dtype=torch.float32)).sum().backward()
    assert found.values.grad is not None
    assert bool(found.values.grad.isfinite().all())
    assert bool((found.values.grad != 0).any())


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TowerError, match="must be finite"):
        singular(torch.tensor([[1.0, math.nan]]))


@pytest.mark.parametrize("kind", [*TOWERS, "custom"])
def test_every_matrix_of_the_blocks_is_found_and_no_other(kind: str) -> None:
    model = model_of(kind)
    found = {id(model.get_parameter(name)) for name in matrices(model)}
    assert found == {id(p) for block in find_blocks(model) for p in block.parameters() if p.ndim == 2}
    assert len(found) == len(matrices(model))


@pytest.mark.parametrize("kind", KINDS)
def test_fused_weights_are_known_by_their_shape(kind: str) -> None:
    model = model_of(kind)
    for name, parts in matrices(model).items():
        rows, columns = model.get_parameter(name).shape
        assert (parts == 3) == (rows == 3 * columns and "mlp" not in name)


def test_a_layer_as_transformers_names_it_and_separate_projections_are_found() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            block = nn.ModuleDict({"query": nn.Linear(4, 4), "attn": nn.MultiheadAttention(4, 2, vdim=6)})
            self.layer = nn.ModuleList([block])
            self.head = nn.Linear(4, 4)

    found = matrices(Other())
    names = {"query.weight", "attn.q_proj_weight", "attn.k_proj_weight", "attn.v_proj_weight"}
    assert found == dict.fromkeys({f"layer.0.{name}" for name in names | {"attn.out_proj.weight"}}, 1)


def test_the_released_code_cuts_ranks_to_a_multiple_of_four() -> None:
    """Its `round_to_nearest`: a width of 30 keeps 28 values, and the model is another one at the start."""
    weight = drawn(30, 30)
    rank = math.floor(math.floor(30 * 1.0) / 4) * 4
    left, values, right = torch.linalg.svd(weight)
    cut = left[:, :rank] * values[:rank] @ right[:rank]
    assert rank == 28
    assert float((cut - weight).norm() / weight.norm()) > 1e-3
    assert torch.equal(singular(weight).merged(), weight)


def heads_of(weight: Tensor, heads: int) -> Tensor:
    return torch.stack([torch.linalg.svdvals(part) for part in weight.chunk(heads)])


def test_spectra_are_those_of_the_rows_and_columns_of_each_head() -> None:
    tower = model_of("native").visual
    found = head_spectra(tower)
    assert list(found) == ["transformer.resblocks.0.attn", "transformer.resblocks.1.attn"]
    attention = tower.transformer.resblocks[0].attn
    values, output = attention.in_proj_weight.detach()[128:], attention.out_proj.weight.detach()
    expected = torch.stack([heads_of(values, 2), heads_of(output.T, 2)])
    torch.testing.assert_close(found["transformer.resblocks.0.attn"], expected)


@pytest.mark.parametrize("kind", [*KINDS, "eva-registers"])
def test_heads_of_every_kind_of_attention_are_found(kind: str) -> None:
    model = model_of(kind)
    found = head_spectra(model)
    assert len(found) == len(find_blocks(model))
    for name, spectrum in found.items():
        assert spectrum.shape[:2] == (2, model.get_submodule(name).num_heads)


def test_the_head_that_moved_is_the_first_whichever_it_is() -> None:
    """The released analysis cuts the sorted values of the whole matrix into pieces and calls them heads.

    Its first "head" is the largest values, so it finds the same heads whichever was changed.
    """
    torch.manual_seed(0)
    tower = nn.ModuleDict(
        {"blocks": nn.ModuleList([nn.MultiheadAttention(32, 4), nn.MultiheadAttention(32, 4)])}
    )
    blamed = set()
    for head in range(4):
        adapted: Any = nn.ModuleDict(
            {"blocks": nn.ModuleList([nn.MultiheadAttention(32, 4), nn.MultiheadAttention(32, 4)])}
        )
        adapted.load_state_dict(tower.state_dict())
        values = adapted.blocks[1].in_proj_weight
        was = torch.linalg.svdvals(values[64:].detach()).view(4, 8)
        values.data[64 + 8 * head : 72 + 8 * head] *= 1.5
        is_now = torch.linalg.svdvals(values[64:].detach()).view(4, 8)
        blamed.add(int((is_now - was).norm(dim=1).argmax()))
        ranked = ranked_heads(head_spectra(tower), head_spectra(adapted))
        name, first, change = ranked[0]
        assert (name, first) == ("blocks.1", head)
        assert change == pytest.approx(0.5, abs=1e-5)
        assert all(rest == pytest.approx(0.0, abs=1e-5) for _, _, rest in ranked[1:])
    assert len(blamed) == 1


def test_values_and_output_both_count() -> None:
    before = {"a": torch.ones(2, 2, 3)}
    after = {"a": torch.tensor([[[1.0] * 3, [2.0] * 3], [[1.5] * 3, [0.0] * 3]])}
    assert ranked_heads(before, after) == [("a", 1, pytest.approx(2.0)), ("a", 0, pytest.approx(0.5))]


def test_spectra_of_other_towers_and_towers_without_heads_are_refused() -> None:
    with pytest.raises(DataError, match="must be of one tower"):
        ranked_heads({"a": torch.ones(2, 2, 3)}, {"a": torch.ones(2, 1, 3)})
    with pytest.raises(TowerError, match="has no attention layers"):
        head_spectra(model_of("convnext").visual)
    assert "convnext" in CANNOT_DROP
