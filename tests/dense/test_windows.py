"""Windows: published counts, every cell covered, whole patches, limits of the longer side, weights."""

import itertools
import math

import pytest
import torch

from patchclip.dense import _windows
from patchclip.dense._canvas import coverage, place
from patchclip.dense._windows import Sizes, plan, starts, weights
from patchclip.errors import ConfigError

SLIDING = Sizes(patch=16, step=16, short_side=336, window=224, stride=112)


def test_an_image_of_336_by_448_has_6_windows() -> None:
    made = plan(448, 336, SLIDING)
    assert made.size == (336, 448)
    assert made.corners == ((0, 0), (0, 7), (0, 14), (7, 0), (7, 7), (7, 14))
    assert (made.grid, made.cells) == ((21, 28), (14, 14))


@pytest.mark.parametrize(("side", "window", "stride"), [(336, 224, 112), (448, 224, 112), (240, 224, 112)])
def test_starts_are_those_of_mmsegmentation(side: int, window: int, stride: int) -> None:
    sizes = Sizes(16, 16, side, window, stride)
    count = max(side - window + stride - 1, 0) // stride + 1
    expected = []
    for i in range(count):
        last = min(i * stride + window, side)
        expected.append(max(last - window, 0))
    assert starts(side, window, sizes) == expected


def test_every_cell_lies_in_a_window_for_all_small_settings() -> None:
    for patch, step in ((4, 4), (4, 2), (4, 1), (2, 1)):
        for short, window, stride in itertools.product((4, 8, 20), (4, 8, 12, 0), (4, 8, 12)):
            made = plan(30, 17, Sizes(patch, step, short, window, stride))
            assert float(coverage(made, "mean").min()) >= 1
            assert float(coverage(made, "ramp").min()) > 0
            assert all(side % patch == 0 for side in (*made.size, *made.window))


def test_canvas_of_overlapping_patches() -> None:
    made = plan(32, 32, Sizes(patch=16, step=4, short_side=32, window=0, stride=16))
    assert made.grid == made.cells == (5, 5)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 10000), (10000, 1), (300, 200), (9999, 10001)])
def test_the_image_keeps_its_shape_within_the_limit(width: int, height: int) -> None:
    made = plan(width, height, SLIDING)
    rows, columns = made.size
    assert min(rows, columns) >= 16
    assert max(rows, columns) <= _windows.LONGEST
    if max(width, height) < 6 * min(width, height):
        assert min(rows, columns) == 336
        assert math.isclose(columns / rows, width / height, rel_tol=0.03)


def test_a_window_larger_than_the_image_is_the_image() -> None:
    made = plan(64, 32, Sizes(16, 16, 32, 224, 112))
    assert made.window == made.size == (32, 64)
    assert made.corners == ((0, 0),)


def test_one_side_smaller_than_the_window() -> None:
    made = plan(64, 32, Sizes(16, 16, 32, 48, 16))
    assert made.window == (32, 48)
    assert made.corners == ((0, 0), (0, 1))


def test_sizes_are_rounded_to_whole_patches() -> None:
    assert [_windows.whole(pixels, 16) for pixels in (1, 23, 24, 39.9, 40)] == [16, 16, 32, 32, 48]
    assert [_windows.floored(pixels, 32) for pixels in (1, 112, 128)] == [32, 96, 128]


def test_weights() -> None:
    assert torch.equal(weights((2, 3), "mean"), torch.ones(2, 3, 1))
    ramp = weights((4, 3), "ramp")[..., 0]
    assert ramp.shape == (4, 3)
    assert torch.equal(ramp, ramp.flip(0))
    assert torch.equal(ramp, ramp.flip(1))
    assert ramp[1, 1] > ramp[0, 1] > ramp[0, 0] > 0


def test_places_are_views() -> None:
    made = plan(448, 336, SLIDING)
    canvas = torch.zeros(*made.grid, 1)
    place(canvas, made, (7, 14)).add_(1)
    assert canvas[7:21, 14:28].sum() == canvas.sum() == 14 * 14


@pytest.mark.parametrize("short_side", [4096, 100_000, 10**9])
def test_pictures_too_large_to_read_are_refused(short_side: int) -> None:
    with pytest.raises(ConfigError, match=rf"short_side={short_side} .* more than 16777216"):
        plan(300, 200, Sizes(16, 16, short_side, 224, 112))


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
def test_2048_pixels_are_read_whatever_the_shape(patch: int) -> None:
    for width in (1, 10, 25, 40, 10_000):
        assert math.prod(plan(width, 10, Sizes(patch, patch, 2048, 224, 112)).size) <= _windows.MOST_PIXELS


def test_canvases_of_too_many_patches_are_refused() -> None:
    assert plan(448, 448, Sizes(14, 1, 448, 224, 112)).grid == (435, 435)
    with pytest.raises(ConfigError, match=r"step=1 .* more than 262144.*larger step"):
        plan(2048, 448, Sizes(16, 1, 448, 224, 112))
