"""CLIPA's grid masks: every window keeps its share, against a loop over windows."""

import itertools
from collections import Counter

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking.grid import GridMask
from tests.masking._images import deviation, dropped, noise, rng, tokens


def reference(gh: int, gw: int, side: int, k: int, ranks: Tensor, shifts: Tensor) -> list[int]:
    """Patches kept in one image, window by window: rank its patches, shift, divide, keep the k lowest."""
    scores: dict[int, float] = {}
    windows = itertools.product(range(0, gh, side), range(0, gw, side))
    for number, (top, left) in enumerate(windows):
        rows, columns = range(top, min(top + side, gh)), range(left, min(left + side, gw))
        patches = [row * gw + column for row in rows for column in columns]
        by_noise = sorted(patches, key=lambda patch: float(ranks[patch]))
        for rank, patch in enumerate(by_noise):
            scores[patch] = (rank + float(shifts[number])) / len(patches)
    return sorted(sorted(scores, key=lambda patch: scores[patch])[:k])


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.62, 0.75, 0.9])
@pytest.mark.parametrize("gh, gw, side", [(4, 4, 2), (7, 7, 2), (3, 5, 2), (7, 4, 3), (1, 1, 2), (5, 5, 1)])
def test_it_is_the_loop_over_windows(gh: int, gw: int, side: int, ratio: float) -> None:
    pixels = torch.zeros(3, 3, 4 * gh, 4 * gw)
    keep = GridMask(ratio, window=side).select(pixels, tokens(3, gh * gw), 0.0, rng(5))
    draws = rng(5)
    ranks = torch.rand(3, gh * gw, generator=draws)
    shifts = torch.rand(3, -(-gh // side) * -(-gw // side), generator=draws)
    k = max(1, int(gh * gw * (1 - ratio) + 1e-6))
    expected = [reference(gh, gw, side, k, ranks[i], shifts[i]) for i in range(3)]
    assert keep.tolist() == expected


def seen_per_window(keep: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches kept of each whole 2 x 2 window [b, windows]."""
    seen = ~dropped(keep, grid[0] * grid[1]).unflatten(1, grid)
    seen = seen[:, : grid[0] // 2 * 2, : grid[1] // 2 * 2].float()
    return (4 * torch.nn.functional.avg_pool2d(seen[:, None], 2)).flatten(1)


@pytest.mark.parametrize("ratio, each", [(0.75, 1), (0.5, 2), (0.25, 3)])
def test_every_window_keeps_the_same_number(ratio: float, each: int) -> None:
    """The law of the paper: at ratio 0.75 one patch of each 2 x 2 window is seen."""
    keep = GridMask(ratio).select(noise(50, 56), tokens(50, 196), 0.0, rng())
    assert seen_per_window(keep, (14, 14)).unique().tolist() == [each]


@pytest.mark.parametrize("ratio", [0.4, 0.6, 0.7])
def test_between_them_windows_differ_by_one_patch(ratio: float) -> None:
    counts = seen_per_window(GridMask(ratio).select(noise(50, 28), tokens(50, 49), 0.0, rng()), (7, 7))
    assert float(counts.max() - counts.min()) == 1


def test_each_patch_of_a_window_is_kept_equally_often() -> None:
    images = 1000
    keep = GridMask(0.75).select(noise(images, 16), tokens(images, 16), 0.0, rng())
    counts = (~dropped(keep, 16)).sum(dim=0).float()
    assert float((counts - images / 4).abs().max()) < 4 * (images * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_the_border_of_an_odd_grid_keeps_its_share(ratio: float) -> None:
    keep = GridMask(ratio).select(noise(800, 28), tokens(800, 49), 0.0, rng(1))
    assert deviation(dropped(keep, 49), 7) < 4


def test_windows_of_one_patch_are_a_random_mask() -> None:
    keep = GridMask(0.5, window=1).select(noise(3000, 8), tokens(3000, 4), 0.0, rng(2))
    counts = Counter(map(tuple, keep.tolist()))
    assert len(counts) == 6  # 2 of 4 patches
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 20.5  # 99.9 % of chi-squared, 5


def test_half_precision_changes_nothing() -> None:
    expected = GridMask(0.5).select(noise(2, 28), tokens(2, 49), 0.0, rng())
    found = GridMask(0.5).select(noise(2, 28).half(), tokens(2, 49).half(), 0.0, rng())
    assert torch.equal(found, expected)


@pytest.mark.parametrize("window", [0, -2])
def test_windows_without_patches_are_refused(window: int) -> None:
    with pytest.raises(ConfigError, match=f"window={window} must be at least 1"):
        GridMask(0.5, window=window)
