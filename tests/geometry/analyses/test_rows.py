"""Rows are checked before they are analysed, and samples of them are evenly spaced."""

import pytest
import torch

from patchclip.errors import DataError
from patchclip.geometry.analyses._rows import checked, spread_out


@pytest.mark.parametrize("shape", [(5, 3), (4, 2), (4,)])
def test_rows_that_are_no_pairs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"got \[4, 3\] and \["):
        checked(torch.zeros(4, 3), torch.zeros(shape))


def test_the_modality_of_a_bad_row_is_named() -> None:
    bad = torch.zeros(4, 3)
    bad[2] = torch.nan
    with pytest.raises(DataError, match="1 of 4 text rows hold NaN or infinity, the first is row 2"):
        checked(torch.zeros(4, 3), bad)


def test_samples_are_evenly_spaced() -> None:
    assert spread_out(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spread_out(3, 5).tolist() == [0, 1, 2]
    assert spread_out(7, 3).tolist() == [0, 2, 4]
