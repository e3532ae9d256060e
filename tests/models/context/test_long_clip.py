"""Stretched positions against linear interpolation in numpy, the released figures and the printed formula."""

import numpy
import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.models.context.long_clip import LongClip


def table(rows: int = 77, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def test_the_released_figures() -> None:
    old = table()
    new = LongClip().positions(old)
    assert len(new) == 4 * 77 - 3 * 20 == 248
    assert torch.equal(new[:20], old[:20])
    assert torch.equal(new[20:245:4], old[20:])
    torch.testing.assert_close(new[21], 0.75 * old[20] + 0.25 * old[21])
    torch.testing.assert_close(new[23], 0.25 * old[20] + 0.75 * old[21])
    last, step = old[76], (old[76] - old[75]) / 4
    torch.testing.assert_close(new[244:], torch.stack([last + i * step for i in range(4)]))


@pytest.mark.parametrize("rows, kept, factor", [(77, 20, 4), (16, 6, 3), (16, 0, 2), (5, 4, 7), (2, 0, 1)])
def test_equal_to_numpy_s_interpolation(rows: int, kept: int, factor: int) -> None:
    old = table(rows)
    new = LongClip(kept, factor).positions(old)
    beyond = torch.cat([old, (2 * old[-1] - old[-2])[None]]).numpy()  # the line through the last two goes on
    places = numpy.concatenate([numpy.arange(kept), kept + numpy.arange(factor * (rows - kept)) / factor])
    expected = [numpy.interp(places, numpy.arange(rows + 1), column) for column in beyond.T]
    assert len(new) == factor * rows - (factor - 1) * kept
    torch.testing.assert_close(new, torch.tensor(numpy.array(expected)).T)


def test_the_printed_formula_would_jump_back() -> None:
    """PE(pos / 4) for pos > 20 reads row 5.25 behind row 20; the released code goes on, and so do we."""
    old = torch.arange(77.0)[:, None]
    new = LongClip().positions(old)[:, 0]
    assert new[20:23].tolist() == [20, 20.25, 20.5]
    assert new[21] != 21 / 4
    assert (new.diff() > 0).all()


def test_factor_one_changes_nothing() -> None:
    assert torch.equal(LongClip(3, 1).positions(table(16)), table(16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    old = table(dtype=dtype)
    assert torch.equal(LongClip().positions(old), LongClip().positions(old.float()).to(dtype))


def test_gradients_are_those_of_finite_differences() -> None:
    old = table(7).requires_grad_()
    assert torch.autograd.gradcheck(LongClip(3, 4).positions, old)


@pytest.mark.parametrize("options", [{"kept": -1}, {"factor": 0}])
def test_options_outside_their_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"kept=.*factor="):
        LongClip(**options)


@pytest.mark.parametrize("rows", [1, 16, 20])
def test_a_table_without_other_rows_is_refused_with_a_cure(rows: int) -> None:
    with pytest.raises(ConfigError, match=rf"kept=20 must be below the {rows} positions.*context\.kept="):
        LongClip().positions(table(rows))


def test_what_does_not_fit_is_cut_off() -> None:
    assert LongClip().cut(400, 246) == [(0, 246)]
