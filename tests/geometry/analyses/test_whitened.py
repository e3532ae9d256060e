"""Whitened embeddings: theory's lengths on normal rows, scipy's test of normality, circles that close."""

import math

import pytest
import torch
from torch import Tensor

from patchclip.embeddings.feature_stats import FeatureStats, whitening
from patchclip.embeddings.scores.likelihood import Likelihood
from patchclip.errors import ConfigError, DataError
from patchclip.geometry.analyses import whitened as wh
from patchclip.geometry.analyses._normality import looks_normal, statistic
from tests.geometry.analyses._pairs import pairs

IMAGE, TEXT = pairs(80)


def gaussian(count: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator).double()
    return torch.randn(count, width, generator=generator).double() @ mixed + 5


def test_normal_rows_have_the_lengths_of_theory() -> None:
    found = wh.Whitened()(gaussian(8000, 40), gaussian(8000, 40, seed=1))
    for side in ("image", "text"):
        assert found[f"{side}_rank"] == 40
        assert found[f"{side}_norm_expected"] == pytest.approx(math.sqrt(39.5))
        assert found[f"{side}_norm"] == pytest.approx(math.sqrt(39.5), rel=0.005)
        assert found[f"{side}_norm_held_out"] == pytest.approx(math.sqrt(39.5), rel=0.02)
        assert found[f"{side}_norm_spread"] == pytest.approx(math.sqrt(0.5), rel=0.05)
        assert found[f"{side}_normal"] >= 0.85
    assert found["pair_correlation"] == pytest.approx(0, abs=0.05)


def test_rows_with_heavy_tails_are_not_normal() -> None:
    heavy = gaussian(2000, 10) ** 3
    found = wh.Whitened()(heavy, gaussian(2000, 10))
    assert found["image_normal"] < 0.1 < 0.8 < found["text_normal"]
    assert found["image_norm_spread"] > 1.5 * found["text_norm_spread"]


def test_mean_square_length_of_the_reference_is_known() -> None:
    found = wh.log_likelihoods(IMAGE)
    squares = -2 * found - 8 * math.log(2 * math.pi)
    assert squares.mean().item() == pytest.approx(8 * 79 / 80)


def test_pairs_whose_likelihoods_move_together() -> None:
    x = gaussian(4000, 6)
    assert wh.Whitened()(x, x @ torch.linalg.qr(gaussian(6, 6))[0])["pair_correlation"] == pytest.approx(1)


def test_likelihoods_are_those_of_the_score() -> None:
    for options in ({}, {"rank": 3}, {"shrinkage": 0.2}):
        expected = Likelihood("image", **options).fit(TEXT, TEXT)(IMAGE, IMAGE)
        torch.testing.assert_close(wh.log_likelihoods(IMAGE, TEXT, **options), expected)


def test_with_fewer_rows_than_numbers_the_rank_falls() -> None:
    image, text = pairs(10, width=30)
    found = wh.Whitened()(image, text)
    assert found["image_rank"] == 4
    assert wh.Whitened(shrinkage=0.1)(image, text)["text_rank"] == 30
    assert wh.Whitened(rank=2)(image, text)["image_rank"] == 2
    with pytest.raises(DataError, match="5 rows vary in 4 of 30 directions"):
        wh.Whitened(rank=20)(image, text)


def test_the_statistic_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    x = torch.cat([gaussian(200, 3), gaussian(200, 3) ** 2], dim=1)
    raw = statistic(x) / (1 + 0.75 / 200 + 2.25 / 200**2)
    for column, found in enumerate(raw):
        z = ((x[:, column] - x[:, column].mean()) / x[:, column].std()).sort().values
        below = torch.from_numpy(stats.norm.logcdf(z.numpy()) + stats.norm.logsf(z.flip(0).numpy()))
        expected = -200 - (((2 * torch.arange(1, 201) - 1) * below).sum() / 200)
        torch.testing.assert_close(found, expected)


def test_one_in_twenty_normal_columns_fails() -> None:
    rows = torch.randn(300, 4000, generator=torch.Generator().manual_seed(0))
    assert looks_normal(rows).double().mean().item() == pytest.approx(0.95, abs=0.012)
    assert not looks_normal(torch.rand(300, 50, generator=torch.Generator().manual_seed(0))).any()
    assert looks_normal(torch.ones(9, 2)).tolist() == [False, False]


def test_the_lowest_and_the_highest() -> None:
    values = torch.tensor([0.3, 0.9, 0.1, 0.9, 0.5])
    low, high = wh.extremes(values, 2)
    assert (low.tolist(), high.tolist()) == ([2, 0], [1, 3])
    assert wh.extremes(values, 9)[1].tolist() == [1, 3, 4, 0, 2]
    with pytest.raises(DataError, match="1 of 5 values are NaN"):
        wh.extremes(torch.where(values == 0.1, torch.nan, values), 2)
    with pytest.raises(ConfigError, match="count=0"):
        wh.extremes(values, 0)


def test_a_circle_starts_ends_and_closes_where_it_should() -> None:
    whiten = whitening(FeatureStats.of(IMAGE))
    one, other = whiten.apply(IMAGE[0]), whiten.apply(IMAGE[1])
    between = math.degrees((one @ other / one.norm() / other.norm()).acos().item())
    degrees = torch.tensor([0.0, between, 180.0, 360.0], dtype=torch.float64)
    points = wh.full_circle(IMAGE[0], IMAGE[1], degrees, whiten)
    torch.testing.assert_close(points[0], IMAGE[0])
    torch.testing.assert_close(points[1], IMAGE[1])
    torch.testing.assert_close(points[2], 2 * IMAGE.mean(0) - IMAGE[0])
    torch.testing.assert_close(points[3], IMAGE[0])


def test_a_circle_through_equal_lengths_is_round() -> None:
    whiten = whitening(FeatureStats.of(IMAGE))
    one, other = whiten.apply(IMAGE[0]), whiten.apply(IMAGE[1])
    end = whiten.invert().apply(other / other.norm() * one.norm())
    points = whiten.apply(wh.full_circle(IMAGE[0], end, torch.arange(0.0, 360, 15), whiten))
    torch.testing.assert_close(points.norm(dim=1), one.norm().expand(24))
    steps = torch.nn.functional.cosine_similarity(points[1:], points[:-1])
    torch.testing.assert_close(steps, torch.full((23,), math.cos(math.radians(15))).double())
    likely = wh.log_likelihoods(whiten.invert().apply(points), IMAGE)
    torch.testing.assert_close(likely, likely[:1].expand(24))


def test_ends_that_many_circles_go_through() -> None:
    whiten = whitening(FeatureStats.of(IMAGE))
    with pytest.raises(DataError, match="the two ends must differ"):
        wh.full_circle(IMAGE[0], IMAGE[0], torch.zeros(1), whiten)
    with pytest.raises(DataError, match="opposite ends"):
        wh.full_circle(IMAGE[0], 2 * IMAGE.mean(0) - IMAGE[0], torch.zeros(1), whiten)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="rank=0"):
        wh.Whitened(rank=0)
    with pytest.raises(ConfigError, match="shrinkage=3"):
        wh.Whitened(shrinkage=3.0)
