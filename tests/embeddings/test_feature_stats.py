"""Statistics of rows do not depend on the parts they come in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from patchclip.embeddings import feature_stats
from patchclip.embeddings.feature_stats import FeatureStats, principal, varying, whitening
from patchclip.errors import CheckpointError, ConfigError, DataError
from tests.embeddings._rows import rows
from tests.engine import _ranks

SPLITS = [[40], [1] * 40, [0, 39, 1], [7, 0, 20, 13], [2, 38]]


def assert_is_of(stats: FeatureStats, x: Tensor) -> None:
    """Holds them against torch's own statistics, of all rows at once."""
    assert stats.count == len(x)
    torch.testing.assert_close(stats.mean, x.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stats.covariance, torch.cov(x.T), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stats.variance, x.var(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stats.gram, x.T @ x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", SPLITS)
def test_any_split_gives_the_same(sizes: list[int]) -> None:
    x = rows(40)
    stats, merged = FeatureStats(6), FeatureStats(6)
    for part in x.split(sizes):
        stats.update(part)
        merged.merge(FeatureStats(6).update(part))
    assert_is_of(stats, x)
    assert_is_of(merged, x)


def test_many_rows_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_stats, "CHUNK", 7)
    assert_is_of(FeatureStats.of(rows(40)), rows(40))


def test_a_mean_far_off_costs_no_digits() -> None:
    x = rows(100)
    found = FeatureStats(6)
    for part in (x + 1e8).split(9):
        found.update(part)
    torch.testing.assert_close(found.covariance, torch.cov(x.T), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sums_are_float64(dtype: torch.dtype) -> None:
    x = rows(40, dtype=dtype)
    assert_is_of(FeatureStats.of(x), x.double())


def test_no_rows_change_nothing() -> None:
    x = rows(5)
    assert_is_of(FeatureStats.of(x).update(x[:0]).merge(FeatureStats(6)), x)
    empty = FeatureStats(6).update(x[:0])
    with pytest.raises(DataError, match="a mean needs at least 1 row, got 0"):
        _ = empty.mean
    with pytest.raises(DataError, match="a covariance needs at least 2 rows, got 1"):
        _ = FeatureStats.of(x[:1]).covariance


def test_rows_that_are_no_numbers_are_refused_and_not_counted() -> None:
    x = rows(5)
    x[3, 2], x[4, 0] = torch.nan, torch.inf
    stats = FeatureStats(6)
    with pytest.raises(DataError, match="2 of 5 rows hold NaN or infinity, the first is row 3"):
        stats.update(x)
    assert stats.count == 0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="of the shape \\[n, 6\\], got \\[2, 5\\]"):
        FeatureStats(6).update(torch.zeros(2, 5))
    with pytest.raises(DataError, match="width=0"):
        FeatureStats(0)
    with pytest.raises(DataError, match="5 numbers cannot be merged into 6"):
        FeatureStats(6).merge(FeatureStats(5))


def test_its_state_goes_on(tmp_path: Path) -> None:
    x = rows(40)
    first, second = FeatureStats.of(x[:17]), FeatureStats(6)
    second.load_state_dict(first.state_dict())
    first.update(x)
    assert_is_of(second.update(x[17:]), x)
    with pytest.raises(CheckpointError, match="lacks mean, rounding, scatter"):
        second.load_state_dict({"count": torch.tensor(1)})
    with pytest.raises(CheckpointError, match="of 5 numbers cannot take over"):
        FeatureStats(5).load_state_dict(first.state_dict())


def test_one_process_is_all_of_them() -> None:
    x = rows(9)
    own = FeatureStats.of(x)
    whole = own.merged_over_processes()
    own.update(x)
    assert_is_of(whole, x)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_give_the_rows_of_all(count: int, tmp_path: Path) -> None:
    _ranks.run("tests.embeddings._stats_ranks", str(tmp_path), ranks=count)
    seen = rows(40)[: 13 if count == 2 else 40]
    states = [load_file(tmp_path / f"rank-{rank}.safetensors") for rank in range(count)]
    for state in states:
        found = FeatureStats(6)
        found.load_state_dict(state)
        assert_is_of(found, seen)
        assert all(torch.equal(state[name], states[0][name]) for name in state)


def test_the_mean_of_parts() -> None:
    x = rows(40)
    torch.testing.assert_close(feature_stats.mean_row(x.split([1, 0, 30, 9])), x.mean(0))
    with pytest.raises(DataError, match="at least 1 row"):
        feature_stats.mean_row(x[:0].split(7))


def test_principal_directions() -> None:
    made = rows(40).T.cov()
    values, vectors = principal(made)
    torch.testing.assert_close(vectors @ values.diag() @ vectors.T, made)
    assert (values.diff() <= 0).all()
    largest = vectors.abs().argmax(dim=0)
    assert (vectors[largest, torch.arange(6)] > 0).all()


def test_whitened_rows_have_the_identity_as_covariance() -> None:
    x = rows(40)
    y = whitening(FeatureStats.of(x)).apply(x)
    torch.testing.assert_close(torch.cov(y.T), torch.eye(6).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(y.square().sum(1).mean().item(), 6 * 39 / 40)


def test_directions_that_do_not_vary_are_left_out() -> None:
    few = rows(4)
    y = whitening(FeatureStats.of(few)).apply(few)
    assert y.shape == (4, 3)
    torch.testing.assert_close(torch.cov(y.T), torch.eye(3).double())
    doubled = torch.cat([rows(40), rows(40)[:, :2] * 3], dim=1)
    for x in (doubled, doubled.float()):
        assert whitening(FeatureStats.of(x)).output_width == 6
    with pytest.raises(DataError, match=r"4 rows vary in 3 of 6 directions, .* at rank=4"):
        whitening(FeatureStats.of(few), rank=4)
    with pytest.raises(DataError, match="vary in 0 of 6"):
        whitening(FeatureStats.of(few[:1].expand(5, -1)))


def test_shrinkage_keeps_every_direction() -> None:
    few = rows(4)
    found = whitening(FeatureStats.of(few), shrinkage=0.3)
    assert found.output_width == 6
    covariance = torch.cov(few.T)
    shrunk = 0.7 * covariance + 0.3 * covariance.trace() / 6 * torch.eye(6)
    torch.testing.assert_close(found.weight @ shrunk @ found.weight.T, torch.eye(6).double())


@pytest.mark.parametrize("options", [{"shrinkage": -0.1}, {"shrinkage": 1.1}, {"rank": 0}])
def test_options_outside_their_range_are_refused(options: Any) -> None:
    with pytest.raises(ConfigError, match="must be"):
        whitening(FeatureStats.of(rows(9)), **options)


def test_fine_rows_far_from_the_origin_are_whitened_and_coarse_ones_are_not() -> None:
    """Mean 1e4 and spread 1e-2: float64 holds the spread, float32 (steps of 1e-3) does not."""
    rows = 1e4 + 1e-2 * torch.randn(2000, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stats = FeatureStats.of(rows)
    assert varying(stats) == 16
    white = whitening(stats).to(rows).apply(rows)
    torch.testing.assert_close(white.T.cov(), torch.eye(16, dtype=torch.float64), atol=1e-6, rtol=0)
    assert varying(FeatureStats.of(rows.float())) == 0
    assert varying(FeatureStats(16).update(rows[:50]).merge(FeatureStats.of(rows[50:].float()))) == 0
    again = FeatureStats(16)
    again.load_state_dict(FeatureStats.of(rows.float()).state_dict())
    assert again.rounding == torch.finfo(torch.float32).eps


def test_directions_that_repeat_others_do_not_vary() -> None:
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert varying(FeatureStats.of(rows @ torch.randn(3, 8))) == 3
    assert varying(FeatureStats.of(rows[:2])) == 1
    assert varying(FeatureStats.of(rows[:1].expand(5, -1))) == 0
