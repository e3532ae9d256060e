"""What holds for every way to read long captions, ours and those to come."""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from patchclip import registry
from patchclip.contracts import LongContext

NAMES = registry.names("context")
ROOM = 75


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest) -> LongContext:
    found: LongContext = registry.build("context", request.param)
    return found


def table(rows: int = 77, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(0)).to(dtype)


def test_the_family_is_there() -> None:
    assert {"long_clip", "clipmd"} <= set(NAMES)


def test_it_is_a_long_context_of_options_alone(method: LongContext) -> None:
    assert isinstance(method, LongContext)
    assert dataclasses.is_dataclass(method)
    assert hash(method) == hash(dataclasses.replace(method))  # type: ignore[type-var]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_positions_are_not_fewer_and_of_the_same_kind(method: LongContext, dtype: torch.dtype) -> None:
    old = table(dtype=dtype)
    before = old.clone()
    new = method.positions(old)
    assert new.dtype == dtype
    assert new.shape[0] >= 77
    assert new.shape[1] == 6
    assert new.isfinite().all()
    assert torch.equal(old, before)
    assert torch.equal(new[0], old[0])


@pytest.mark.parametrize("length", [0, 1, 74, 75, 76, 77, 143, 144, 150, 151, 1000])
def test_windows_fit_and_leave_nothing_out_between_them(method: LongContext, length: int) -> None:
    windows = method.cut(length, ROOM)
    assert windows[0][0] == 0
    assert all(0 <= end - start <= ROOM for start, end in windows)
    assert all(start < end for start, end in windows[1:])
    assert windows[-1][1] <= length
    for (start, end), (after, last) in itertools.pairwise(windows):
        assert start < after <= end < last


@pytest.mark.parametrize("length", [0, 1, ROOM])
def test_a_text_that_fits_is_one_window(method: LongContext, length: int) -> None:
    assert method.cut(length, ROOM) == [(0, length)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_window_s_embedding_is_the_caption_s(method: LongContext, dtype: torch.dtype) -> None:
    rows = table(1, dtype)
    assert torch.equal(method.pool(rows, torch.tensor([9])), rows[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_windows_with_equal_content_give_its_embedding(method: LongContext, dtype: torch.dtype) -> None:
    row = table(1, dtype)
    pooled = method.pool(row.expand(5, -1), torch.full((5,), ROOM))
    torch.testing.assert_close(pooled, row[0], rtol=1e-3 if dtype == torch.float16 else 1e-6, atol=1e-6)


def test_the_gradient_reaches_embeddings_and_positions(method: LongContext) -> None:
    rows, positions = table(3).requires_grad_(), table().requires_grad_()
    method.pool(rows, torch.tensor([75, 75, 10])).sum().backward()
    method.positions(positions).sum().backward()
    for value in (rows, positions):
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert value.grad.abs().max() > 0
