"""TextSpan: the greedy search, its directions and what they explain."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip import registry
from patchclip.errors import ConfigError, DataError
from patchclip.geometry.explanations.textspan import TextSpan, _check


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(outputs: Any, texts: Any, rank: int, count: int, normalise: bool) -> list[int]:
    """The search in numpy, with projections solved anew on everything found, by least squares."""
    basis = np.linalg.svd(outputs, full_matrices=False)[2][:rank]
    words = np.stack([basis.T @ (basis @ text) for text in texts])
    left = outputs - outputs.mean(axis=0)
    chosen: list[int] = []
    for _ in range(count):
        rest, remains = left, words
        if chosen:
            taken = words[chosen].T
            rest = left - (taken @ np.linalg.lstsq(taken, left.T, rcond=None)[0]).T
            remains = words - (taken @ np.linalg.lstsq(taken, words.T, rcond=None)[0]).T
        scores = (rest @ remains.T).std(axis=0, ddof=1)
        if normalise:
            scores = scores / np.maximum(np.linalg.norm(remains, axis=1), 1e-9)
        scores[chosen] = -1
        chosen.append(int(scores.argmax()))
    return chosen


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("rank", [3, 6, 80])
def test_it_finds_what_an_independent_search_finds(normalise: bool, rank: int) -> None:
    outputs, texts = draw(40, 8) * torch.arange(1, 9), F.normalize(draw(25, 8, seed=1), dim=1)
    found = TextSpan(rank=rank, count=min(rank - 1, 5), normalise=normalise)(outputs, texts)
    expected = reference(outputs.numpy(), texts.numpy(), rank, min(rank - 1, 5), normalise)
    assert list(found.chosen) == expected


def test_directions_are_orthonormal_and_a_whole_basis_explains_everything() -> None:
    outputs, texts = draw(60, 12), F.normalize(draw(40, 12, seed=1), dim=1)
    found = TextSpan(count=12)(outputs, texts)
    assert len(set(found.chosen)) == 12
    torch.testing.assert_close(
        found.directions @ found.directions.T, torch.eye(12, dtype=torch.float64), atol=1e-12, rtol=0
    )
    assert float(found.energies.sum()) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(found.reconstruct(outputs), outputs)


def test_energies_are_the_variance_along_the_directions() -> None:
    outputs, texts = draw(60, 12) + 3, F.normalize(draw(40, 12, seed=1), dim=1)
    found = TextSpan(count=4)(outputs, texts)
    along = (outputs @ found.directions.T).var(dim=0) / outputs.var(dim=0).sum()
    torch.testing.assert_close(found.energies, along)
    left = outputs - found.reconstruct(outputs)
    share = float(left.square().sum() / (outputs - outputs.mean(dim=0)).square().sum())
    assert share == pytest.approx(1 - float(found.energies.sum()))


@pytest.mark.parametrize("normalise", [False, True])
def test_a_planted_direction_is_found_first(normalise: bool) -> None:
    texts = F.normalize(draw(50, 16, seed=1), dim=1)
    outputs = 5 * draw(80, 1, seed=2) * texts[17] + 0.1 * draw(80, 16, seed=3)
    found = TextSpan(normalise=normalise)(outputs, texts)
    assert found.chosen[0] == 17
    assert float(found.energies[0]) > 0.95


def test_without_normalising_a_longer_text_wins_over_one_that_points_better() -> None:
    """As released: of texts of unit length, the one with more of it in the outputs' space is favoured."""
    outputs = torch.zeros(4, 3, dtype=torch.float64)
    outputs[:, 0] = torch.tensor([3.0, -3.0, 3.0, -3.0])
    outputs[:, 1] = torch.tensor([1.0, 1.0, -1.0, -1.0])
    texts = torch.tensor([[0.5, 0.0, math.sqrt(0.75)], [0.8, 0.6, 0.0]], dtype=torch.float64)
    assert TextSpan(count=1)(outputs, texts).chosen == (1,)
    assert TextSpan(count=1, normalise=True)(outputs, texts).chosen == (0,)


def test_a_large_mean_takes_one_of_the_ranks() -> None:
    """As released: the mean is subtracted behind the singular value decomposition."""
    texts = torch.eye(3, dtype=torch.float64)
    outputs = draw(30, 1) * texts[0] + 100 * texts[1]
    found = TextSpan(rank=1, count=1)(outputs, texts)
    assert found.chosen == () or float(found.energies[0]) < 0.01
    assert TextSpan(rank=2, count=1)(outputs, texts).chosen == (0,)


def test_ranks_beyond_what_the_outputs_span_are_left_out() -> None:
    """The released code keeps them: of singular value 0, their directions are arbitrary."""
    outputs = torch.cat([draw(30, 2), torch.zeros(30, 6, dtype=torch.float64)], dim=1)
    texts = F.normalize(draw(20, 8, seed=1), dim=1)
    found = TextSpan(rank=80, count=2)(outputs, texts)
    assert float(found.directions[:, 2:].abs().max()) < 1e-12
    assert float(found.energies.sum()) == pytest.approx(1, abs=1e-12)
    assert found.chosen == TextSpan(rank=2, count=2)(outputs, texts).chosen


def test_it_ends_where_texts_or_outputs_end() -> None:
    texts, outputs = torch.eye(6, dtype=torch.float64), draw(30, 6)
    same = TextSpan(count=5)(outputs, texts[:2].repeat(3, 1))
    assert len(same.chosen) == 2  # the released code would divide by zero
    flat = torch.cat([outputs[:, :3], torch.zeros(30, 3, dtype=torch.float64)], dim=1)
    assert len(TextSpan(count=6)(flat, texts).chosen) == 3
    apart = TextSpan()(flat, texts[4:])
    assert apart.chosen == ()
    assert apart.directions.shape == (0, 6)
    torch.testing.assert_close(apart.reconstruct(flat), flat.mean(dim=0).expand(30, 6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_is_computed_in_float64(dtype: torch.dtype) -> None:
    outputs, texts = draw(40, 8).to(dtype), F.normalize(draw(9, 8, seed=1), dim=1).to(dtype)
    found = TextSpan(count=3)(outputs, texts)
    assert found.directions.dtype == torch.float64
    assert found.chosen == TextSpan(count=3)(outputs.double(), texts.double()).chosen


@pytest.mark.parametrize("options", [{"rank": 0}, {"count": 0}])
def test_options_outside_their_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must both be at least 1"):
        registry.build("explanations", "textspan", **options)


def test_what_cannot_be_explained_is_refused() -> None:
    outputs, texts = draw(5, 4), draw(3, 4)
    for wrong in ((outputs[:1], texts), (outputs, texts[:0])):
        with pytest.raises(DataError, match="2 outputs and 1 text are needed"):
            TextSpan()(*wrong)
    with pytest.raises(DataError, match=r"must be \[n, e\] and \[k, e\]"):
        _check(outputs, texts[:, :3])
    with pytest.raises(DataError, match="must be finite"):
        TextSpan()(outputs * math.nan, texts)
    with pytest.raises(DataError, match="all the same"):
        TextSpan()(outputs[:1].expand(5, 4), texts)
