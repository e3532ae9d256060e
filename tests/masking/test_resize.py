"""Resizing: how many patches are left of a grid."""

import math

import pytest

from patchclip.contracts import Resizing
from patchclip.errors import ConfigError
from patchclip.masking.resize import ResizeMask


@pytest.mark.parametrize(
    "grid, ratio, side",
    [(14, 0.5, 10), (14, 0.75, 7), (14, 0.3, 12), (7, 0.5, 5), (14, 0.0, 14), (1, 0.9, 1), (14, 0.999, 1)],
)
def test_the_grid_by_hand(grid: int, ratio: float, side: int) -> None:
    masker = ResizeMask(ratio)
    assert masker.resized((grid, grid), 0.0) == (side, side)
    assert masker.kept(grid * grid, 0.0) == side * side


def test_the_share_left_is_the_nearest_a_square_can_be() -> None:
    for grid in (7, 14, 16, 24):
        for percent in range(0, 95, 5):
            side = ResizeMask(percent / 100).resized((grid, grid), 0.0)[0]
            wanted = math.sqrt(1 - percent / 100) * grid
            assert abs(side - wanted) <= 0.5 or side == 1


def test_grids_that_are_not_square_are_refused() -> None:
    with pytest.raises(ConfigError, match="square images, got 2 x 3 patches"):
        ResizeMask(0.5).resized((2, 3), 0.0)


def test_it_grows_with_a_schedule() -> None:
    masker = ResizeMask((0.75, 0.0), schedule="linear")
    sides = [masker.resized((14, 14), step / 10)[0] for step in range(11)]
    assert sides == sorted(sides)
    assert (sides[0], sides[-1]) == (7, 14)


def test_it_says_that_it_resizes() -> None:
    assert isinstance(ResizeMask(), Resizing)


def test_a_ratio_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="mask_ratio="):
        ResizeMask(1.0)
