"""How many patches are kept."""

import itertools
import math
from collections import Counter

import pytest

from patchclip.errors import ConfigError
from patchclip.masking._schedule import BUCKETS, MaskRatio, RatioSchedule


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
    assert {RatioSchedule(ratio).kept(patches, step / 10) for step in range(11)} == {kept}


def test_at_least_one_patch_is_kept_and_more_ratio_keeps_no_more() -> None:
    for patches in (1, 2, 7, 49, 196, 577):
        kept = [RatioSchedule(percent / 100).kept(patches, 0.0) for percent in range(100)]
        assert kept[0] == patches
        assert min(kept) >= 1
        assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("schedule", ["draw", "linear", "cosine"])
@pytest.mark.parametrize("ratio", [0, 0.0, 0.5, 0.999, (0.4,), (0.5, 0.5)])
def test_one_ratio_holds_all_the_time(ratio: MaskRatio, schedule: str) -> None:
    found = RatioSchedule(ratio, schedule)
    assert len(found.ratios) == 1
    assert {found.at(step / 50) for step in range(51)} == set(found.ratios)


def test_a_range_is_five_evenly_spaced_ratios_with_both_ends() -> None:
    assert RatioSchedule((0.3, 0.5)).ratios == pytest.approx((0.3, 0.35, 0.4, 0.45, 0.5))
    assert len(RatioSchedule([0.0, 0.9]).ratios) == BUCKETS == 5


@pytest.mark.parametrize(
    "ratio", [1, 1.0, -0.1, 1.5, (0.3, 1.0), (-0.1, 0.5), (0.1, 0.2, 0.3), (), float("nan")]
)
def test_other_ratios_are_refused_with_the_value_and_the_cure(ratio: MaskRatio) -> None:
    with pytest.raises(ConfigError, match="mask_ratio=") as caught:
        RatioSchedule(ratio)
    assert repr(ratio) in str(caught.value)
    assert "use 0.5" in str(caught.value)


def test_a_falling_pair_cannot_be_drawn_from_but_walked() -> None:
    with pytest.raises(ConfigError, match=r"\[0.3, 0.5\].*schedule=linear"):
        RatioSchedule((0.5, 0.3))
    assert RatioSchedule((0.5, 0.3), "linear").ratios == pytest.approx((0.5, 0.45, 0.4, 0.35, 0.3))


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="schedule='step' must be one of draw, linear, cosine"):
        RatioSchedule((0.3, 0.5), "step")


def test_linear_by_hand() -> None:
    found = RatioSchedule((0.8, 0.0), "linear")
    steps = [round(found.at(step / 10), 10) for step in range(11)]
    assert steps == [0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2, 0.2, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("ends", [(0.75, 0.0), (0.1, 0.9)])
def test_cosine_stays_longer_at_both_ends_than_in_between(ends: tuple[float, float]) -> None:
    found = RatioSchedule(ends, "cosine")
    counts = Counter(found.at(step / 1000) for step in range(1000))
    shares = [counts[ratio] / 1000 for ratio in found.ratios]
    edges = [math.acos(1 - 2 * i / 5) / math.pi for i in range(6)]
    assert shares == pytest.approx([b - a for a, b in itertools.pairwise(edges)], abs=0.002)
    assert shares[0] > 1.3 * shares[2]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_walked_schedules_go_one_way(schedule: str) -> None:
    ratios = [RatioSchedule((0.2, 0.6), schedule).at(step / 200) for step in range(201)]
    assert ratios == sorted(ratios)
    assert (ratios[0], ratios[-1]) == pytest.approx((0.2, 0.6))


def test_the_draw_is_the_same_again_and_differs_between_steps() -> None:
    first = [RatioSchedule((0.3, 0.5)).at(step / 1000) for step in range(1000)]
    assert first == [RatioSchedule((0.3, 0.5)).at(step / 1000) for step in range(1000)]
    assert first[:20] != first[20:40]


@pytest.mark.parametrize("steps", [500, 4096, 3000])
def test_all_ratios_are_about_equally_frequent(steps: int) -> None:
    found = RatioSchedule((0.3, 0.5))
    counts = Counter(found.at(step / steps) for step in range(steps))
    assert set(counts) == set(found.ratios)
    expected = steps / BUCKETS
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < 18.5, counts  # 99.9 % of chi-squared with 4 degrees of freedom


def test_neighbouring_steps_are_independent() -> None:
    found = RatioSchedule((0.3, 0.5))
    drawn = [found.at(step / 2000) for step in range(2000)]
    same = sum(a == b for a, b in itertools.pairwise(drawn)) / 1999
    assert same == pytest.approx(1 / BUCKETS, abs=0.04)  # 4.5 standard errors
