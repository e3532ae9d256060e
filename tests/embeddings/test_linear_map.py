"""A linear map is applied, undone, chained and kept without a change."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import CheckpointError, DataError
from tests.embeddings._rows import rows


def drawn(out: int, width: int, seed: int = 0) -> LinearMap:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*shape, generator=generator).double() for shape in ((out, width), (width,), (out,))]
    return LinearMap(*draw)


def test_hand_arithmetic() -> None:
    made = LinearMap(
        torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([1.0, 1.0]), torch.tensor([5.0, 6.0])
    )
    assert made.apply(torch.tensor([[2.0, 3.0]])).tolist() == [[1 + 4 + 5, 6 + 6]]
    assert made.apply(torch.tensor([2.0, 3.0])).tolist() == [10.0, 12.0]


def test_parts_left_out_are_zeros() -> None:
    x = rows(3)
    torch.testing.assert_close(LinearMap.identity(6).apply(x), x)
    assert (LinearMap.identity(6).input_width, LinearMap.identity(6).output_width) == (6, 6)


@pytest.mark.parametrize("out", [6, 9])
def test_the_inverse_gives_the_rows_back(out: int) -> None:
    made, x = drawn(out, 6), rows(5)
    torch.testing.assert_close(made.invert().apply(made.apply(x)), x)


def test_the_inverse_of_a_narrow_map_gives_back_what_it_kept() -> None:
    made, x = drawn(3, 6), rows(5)
    y = made.apply(x)
    back = made.invert().apply(y)
    torch.testing.assert_close(made.apply(back), y)
    assert not torch.allclose(back, x)
    nearest = torch.linalg.pinv(made.weight) @ made.weight
    assert made.shift is not None
    torch.testing.assert_close(back - made.shift, (x - made.shift) @ nearest)


def test_a_map_that_lost_a_direction_says_so() -> None:
    x = rows(5)
    flat = LinearMap(torch.diag(torch.tensor([1.0, 1, 1, 1, 1, 0])).double())
    with pytest.raises(DataError, match="rank 5 cannot be inverted at rank=6: ask for invert\\(rank=5\\)"):
        flat.invert(rank=6)
    with pytest.raises(DataError, match="rank 5"):
        flat.invert()
    torch.testing.assert_close(flat.invert(rank=5).apply(flat.apply(x)), x * torch.tensor([1, 1, 1, 1, 1, 0]))
    with pytest.raises(DataError, match="rank=0"):
        flat.invert(rank=0)


@pytest.mark.parametrize("first", [drawn(4, 6), LinearMap(drawn(4, 6).weight)], ids=["whole", "bare"])
def test_one_after_the_other_is_one_map(first: LinearMap) -> None:
    second, x = drawn(5, 4, seed=1), rows(7)
    torch.testing.assert_close(first.then(second).apply(x), second.apply(first.apply(x)))
    with pytest.raises(DataError, match="takes 6 numbers cannot follow one that gives 4"):
        first.then(first)


def test_it_is_kept_as_it_is(tmp_path: Path) -> None:
    for made in (drawn(4, 6), LinearMap.identity(3)):
        found = LinearMap.load(made.save(tmp_path / "folder" / "map.safetensors"))
        assert torch.equal(found.weight, made.weight)
        assert (found.shift is None) == (made.shift is None)
        assert made.bias is None or (found.bias is not None and torch.equal(found.bias, made.bias))
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["map.safetensors"]


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read as a linear map"):
        LinearMap.load(tmp_path / "missing")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(CheckpointError, match="cannot be read as a linear map"):
        LinearMap.load(tmp_path / "text")
    save_file({"weight": torch.eye(2), "scale": torch.ones(1)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="holds scale, weight"):
        LinearMap.load(tmp_path / "other")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_full(dtype: torch.dtype) -> None:
    made, x = drawn(4, 6), rows(50, dtype=dtype)
    found = made.apply(x)
    assert found.dtype == dtype
    assert torch.equal(found, made.apply(x.float()).to(dtype))
    assert made.to(x).weight.dtype == torch.float32


def test_the_gradient_reaches_the_rows() -> None:
    x = rows(3).requires_grad_()
    assert torch.autograd.gradcheck(drawn(4, 6).apply, (x,))


def test_a_shift_loses_no_digits() -> None:
    far = LinearMap(torch.eye(1), shift=torch.tensor([1e7]))
    assert far.apply(torch.tensor([[1e7 + 3]])).item() == 3


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"bias .* of the shape \[2\], got \[3\]"):
        LinearMap(torch.eye(2), bias=torch.zeros(3))
    with pytest.raises(DataError, match="weight of a linear map must be finite"):
        LinearMap(torch.eye(2) / 0)
    with pytest.raises(DataError, match="takes embeddings of 2 numbers, got the shape \\[4, 3\\]"):
        LinearMap.identity(2).apply(torch.zeros(4, 3))
