"""How many patches are kept."""

import itertools
from collections import Counter

import pytest

from patchclip.errors import ConfigError
from patchclip.masking._schedule import BUCKETS, MaskRatio, check_ratio, kept_patches, ratio_at


@pytest.mark.parametrize(
    "patches, ratio, kept",
    [
        (196, 0.5, 98),
        (196, 0.3, 137),
        (196, 0.75, 49),
        (196, 0.0, 196),
        (49, 0.5, 24),
        (49, 0.9, 4),
        (100, 0.9, 10),  # 100 * (1 - 0.9) is 9.99...98 in floating point
        (10, 0.7, 3),  # 10 * (1 - 0.7) is 3.0000000000000004
        (1, 0.5, 1),
        (4, 0.99, 1),
        (1024, 0.5, 512),
    ],
)
def test_patches_kept(patches: int, ratio: float, kept: int) -> None:
    assert kept_patches(patches, ratio) == kept


def test_at_least_one_patch_is_kept_and_more_ratio_keeps_no_more() -> None:
    for patches in (1, 2, 7, 49, 196, 577):
        kept = [kept_patches(patches, percent / 100) for percent in range(100)]
        assert kept[0] == patches
        assert min(kept) >= 1
        assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("ratio", [0, 0.0, 0.5, 0.999])
def test_one_ratio_is_one_bucket(ratio: float) -> None:
    assert check_ratio(ratio) == (ratio,)
    assert check_ratio((ratio,)) == (ratio,)
    assert check_ratio([ratio, ratio]) == (ratio,)


def test_a_range_is_five_evenly_spaced_ratios_with_both_ends() -> None:
    assert check_ratio((0.3, 0.5)) == pytest.approx((0.3, 0.35, 0.4, 0.45, 0.5))
    assert len(check_ratio([0.0, 0.9])) == BUCKETS == 5


@pytest.mark.parametrize(
    "ratio", [1, 1.0, -0.1, 1.5, (0.5, 0.3), (0.3, 1.0), (-0.1, 0.5), (0.1, 0.2, 0.3), (), float("nan")]
)
def test_other_ratios_are_refused_with_the_value_and_the_cure(ratio: MaskRatio) -> None:
    with pytest.raises(ConfigError, match="mask_ratio=") as caught:
        check_ratio(ratio)
    assert repr(ratio) in str(caught.value)
    assert "use 0.5" in str(caught.value)


def test_one_ratio_holds_all_the_time() -> None:
    assert {ratio_at((0.4,), step / 50) for step in range(50)} == {0.4}


def test_the_draw_is_the_same_again_and_differs_between_steps() -> None:
    ratios = check_ratio((0.3, 0.5))
    first = [ratio_at(ratios, step / 1000) for step in range(1000)]
    assert first == [ratio_at(ratios, step / 1000) for step in range(1000)]
    assert first[:20] != first[20:40]


@pytest.mark.parametrize("steps", [500, 4096, 3000])
def test_all_ratios_are_about_equally_frequent(steps: int) -> None:
    ratios = check_ratio((0.3, 0.5))
    counts = Counter(ratio_at(ratios, step / steps) for step in range(steps))
    assert set(counts) == set(ratios)
    expected = steps / BUCKETS
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < 18.5, counts  # 99.9 % of chi-squared with 4 degrees of freedom


def test_neighbouring_steps_are_independent() -> None:
    ratios = check_ratio((0.3, 0.5))
    drawn = [ratio_at(ratios, step / 2000) for step in range(2000)]
    same = sum(a == b for a, b in itertools.pairwise(drawn)) / 1999
    assert same == pytest.approx(1 / BUCKETS, abs=0.04)  # 4.5 standard errors
