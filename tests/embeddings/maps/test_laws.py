"""What holds for every way to fit a linear map, ours and those to come."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip import registry
from patchclip.contracts import MapFitter
from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import DataError
from tests.embeddings._rows import rows

NAMES = registry.names("maps")


@pytest.fixture(params=NAMES)
def fitter(request: pytest.FixtureRequest) -> MapFitter:
    made: MapFitter = registry.build("maps", request.param)
    return made


def accepted(fitter: MapFitter, dtype: torch.dtype = torch.float64) -> list[LinearMap]:
    """The maps without a target and with one, of those that the method allows."""
    found: list[Any] = []
    for target in (None, rows(40, seed=1, dtype=dtype)):
        with contextlib.suppress(DataError):
            found.append(fitter.fit(rows(40, dtype=dtype), target))
    return found


def rank(made: LinearMap) -> int:
    return int(torch.linalg.matrix_rank(made.weight))


def test_the_family_is_there() -> None:
    assert set(NAMES) >= {"center", "concept", "pca", "procrustes", "whiten"}


def test_it_fits_maps(fitter: MapFitter) -> None:
    assert isinstance(fitter, MapFitter)
    assert accepted(fitter)
    for made in accepted(fitter):
        assert isinstance(made, LinearMap)
        assert made.input_width == 6
        assert made.apply(rows(3, seed=2)).isfinite().all()


def test_the_map_may_be_undone(fitter: MapFitter) -> None:
    x = rows(9, seed=2)
    for made in accepted(fitter):
        back = made.invert(rank=rank(made))
        y = made.apply(x)
        torch.testing.assert_close(made.apply(back.apply(y)), y)
        if rank(made) == 6:
            torch.testing.assert_close(back.apply(y), x)


def test_the_map_is_kept(fitter: MapFitter, tmp_path: Path) -> None:
    x = rows(9, seed=2)
    for made in accepted(fitter):
        assert torch.equal(LinearMap.load(made.save(tmp_path / "map")).apply(x), made.apply(x))


def test_a_fit_is_the_same_at_every_call_and_changes_nothing(fitter: MapFitter) -> None:
    torch.manual_seed(0)
    first = accepted(fitter)
    torch.manual_seed(1)
    for one, other in zip(first, accepted(fitter), strict=True):
        assert torch.equal(one.weight, other.weight)
    x = rows(40)
    before = x.clone()
    for target in (None, rows(40, seed=1)):
        try:
            fitter.fit(x, target)
        except DataError:
            continue
    assert torch.equal(x, before)


def test_the_order_of_the_pairs_does_not_matter(fitter: MapFitter) -> None:
    x, y, order = rows(40), rows(40, seed=1), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    for target in (None, y):
        try:
            one = fitter.fit(x, target)
        except DataError:
            continue
        other = fitter.fit(x[order], None if target is None else target[order])
        torch.testing.assert_close(one.apply(x), other.apply(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fits_in_low_precision_are_near_and_float32(fitter: MapFitter, dtype: torch.dtype) -> None:
    for made, exact in zip(accepted(fitter, dtype), accepted(fitter), strict=True):
        assert made.weight.dtype == torch.float32
        y, expected = made.apply(rows(40, dtype=dtype)), exact.apply(rows(40))
        assert y.dtype == dtype
        assert (y.double() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("wrong", ["nan", "inf", "empty", "width"])
def test_what_cannot_be_fitted_is_refused(fitter: MapFitter, wrong: str) -> None:
    x, y = rows(40), rows(40, seed=1)
    if wrong in ("nan", "inf"):
        x[3, 1] = float(wrong)
    if wrong == "empty":
        x, y = x[:0], y[:0]
    if wrong == "width":
        y = y[:, :5]
    targets: tuple[Tensor | None, ...] = (y,) if wrong == "width" else (None, y)
    for target in targets:
        with pytest.raises(DataError):
            fitter.fit(x, target)


def test_the_gradient_reaches_what_is_mapped(fitter: MapFitter) -> None:
    for made in accepted(fitter):
        assert torch.autograd.gradcheck(made.apply, (rows(3, seed=2).requires_grad_(),))
