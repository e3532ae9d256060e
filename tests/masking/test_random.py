"""FLIP's random masks: uniform over patches and over subsets."""

from collections import Counter

import pytest
import torch

from patchclip.errors import ConfigError
from patchclip.masking._schedule import MaskRatio
from patchclip.masking.random import RandomMask
from tests.masking._images import deviation, dropped, noise, rng, tokens


def test_every_patch_is_kept_equally_often() -> None:
    images = 2000
    keep = RandomMask(0.5).select(noise(images, 12), tokens(images, 9), 0.0, rng())
    counts = dropped(keep, 9).float().sum(dim=0)
    share = 5 / 9  # 4 of 9 kept
    sigma = (images * share * (1 - share)) ** 0.5
    assert float((counts - images * share).abs().max()) < 4 * sigma


def test_every_subset_is_equally_likely() -> None:
    images = 6000
    keep = RandomMask(0.5).select(noise(images, 8), tokens(images, 4), 0.0, rng(1))
    counts = Counter(map(tuple, keep.tolist()))
    assert len(counts) == 6  # 2 of 4 patches
    chi2 = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert chi2 < 20.5  # 99.9 % of chi-squared with 5 degrees of freedom


def test_rows_and_columns_are_uniform() -> None:
    keep = RandomMask(0.75).select(noise(400, 28), tokens(400, 196), 0.0, rng(2))
    assert keep.shape == (400, 49)
    assert deviation(dropped(keep, 196), 14) < 4


def test_images_of_a_batch_get_different_masks() -> None:
    keep = RandomMask(0.5).select(noise(20, 16), tokens(20, 64), 0.0, rng())
    assert len(set(map(tuple, keep.tolist()))) == 20


def test_neither_pixels_nor_tokens_matter() -> None:
    masker = RandomMask(0.5)
    first = masker.select(noise(3, 16), tokens(3, 16), 0.2, rng(4))
    assert torch.equal(first, masker.select(noise(3, 16, 9), tokens(3, 16, 9), 0.2, rng(4)))
    assert not torch.equal(first, masker.select(noise(3, 16), tokens(3, 16), 0.2, rng(5)))


def test_ratio_zero_keeps_all() -> None:
    keep = RandomMask(0.0).select(noise(2, 12), tokens(2, 9), 0.0, rng())
    assert keep.tolist() == [list(range(9))] * 2


def test_a_range_gives_five_sizes() -> None:
    masker = RandomMask((0.5, 0.75))
    sizes = {masker.select(noise(1, 28), tokens(1, 196), step / 100, rng()).shape[1] for step in range(100)}
    assert sizes == {98, 85, 73, 61, 49}  # 196 times .5, .4375, .375, .3125, .25


@pytest.mark.parametrize("ratio", [1.0, -0.5, (0.6, 0.5)])
def test_ratios_outside_the_range_are_refused(ratio: MaskRatio) -> None:
    with pytest.raises(ConfigError, match="mask_ratio="):
        RandomMask(ratio)
