"""Likelihoods, held against the normal distribution's own density."""

import math
from typing import Any

import pytest
import torch

from patchclip.embeddings.scores.likelihood import Likelihood
from patchclip.errors import ConfigError
from tests.embeddings._rows import rows

IMAGE, TEXT = rows(60), rows(50, seed=1)


def test_it_is_the_density_of_whitened_rows() -> None:
    x = rows(9, seed=2)
    normal = torch.distributions.MultivariateNormal(IMAGE.mean(0), torch.cov(IMAGE.T))
    jacobian = 0.5 * torch.logdet(torch.cov(IMAGE.T))
    found = Likelihood("image").fit(IMAGE, TEXT)(x, x)
    torch.testing.assert_close(found, normal.log_prob(x) + jacobian)


def test_both_is_the_sum() -> None:
    x, y = rows(9, seed=2), rows(9, seed=3)
    parts = [Likelihood(side).fit(IMAGE, TEXT)(x, y) for side in ("image", "text")]
    torch.testing.assert_close(Likelihood().fit(IMAGE, TEXT)(x, y), parts[0] + parts[1])


def test_the_mean_is_the_most_likely_row() -> None:
    score = Likelihood("image").fit(IMAGE, TEXT)
    mean = IMAGE.mean(0, keepdim=True)
    assert score(mean, mean).item() == pytest.approx(-3 * math.log(2 * math.pi))
    assert score(IMAGE, IMAGE).max() < score(mean, mean)


def test_the_mean_over_the_reference_is_known() -> None:
    found = Likelihood("text").fit(IMAGE, TEXT)(TEXT, TEXT).mean().item()
    assert found == pytest.approx(-(6 * math.log(2 * math.pi) + 6 * 49 / 50) / 2)


def test_a_linear_map_of_the_embeddings_changes_nothing() -> None:
    mixed = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()
    x = rows(9, seed=2)
    expected = Likelihood("image").fit(IMAGE, TEXT)(x, x)
    found = Likelihood("image").fit(IMAGE @ mixed + 5, TEXT)(x @ mixed + 5, x)
    torch.testing.assert_close(found, expected)


def test_fewer_directions_and_fewer_rows_than_numbers() -> None:
    x = rows(9, seed=2)
    for options in ({"rank": 3}, {"shrinkage": 0.2}):
        assert Likelihood("image", **options).fit(IMAGE[:4], TEXT[:4])(x, x).isfinite().all()
    assert [each.output_width for each in Likelihood().fit(IMAGE[:4], TEXT).maps] == [3, 6]


@pytest.mark.parametrize("options", [{"of": "pixels"}, {"shrinkage": -1.0}, {"rank": 0}])
def test_options_are_checked(options: Any) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Likelihood(**options)
