"""Whitening: its covariance is the identity, and it needs no noise for features that repeat each other."""

import pytest
import torch
from torch import Tensor

from patchclip.embeddings.maps.whiten import Whiten
from patchclip.errors import ConfigError, DataError
from tests.embeddings._rows import rows

EYE = torch.eye(6).double()


@pytest.mark.parametrize("zca", [False, True])
def test_the_covariance_is_the_identity(zca: bool) -> None:
    x = rows(40)
    y = Whiten(zca=zca).fit(x).apply(x)
    torch.testing.assert_close(torch.cov(y.T), EYE, rtol=0, atol=1e-12)
    torch.testing.assert_close(y.mean(0), torch.zeros(6).double(), rtol=0, atol=1e-12)
    assert y.square().sum(1).mean().item() == pytest.approx(6 * 39 / 40)


def test_zca_is_the_nearest_of_all_whitenings() -> None:
    x = rows(40)
    made = Whiten(zca=True).fit(x)
    torch.testing.assert_close(made.weight, made.weight.T)
    centred = x - x.mean(0)
    assert (made.apply(x) - centred).norm() < (Whiten().fit(x).apply(x) - centred).norm()


def test_rank_keeps_the_directions_that_vary_most() -> None:
    x = rows(40)
    whole, part = Whiten().fit(x), Whiten(rank=2).fit(x)
    assert part.weight.shape == (2, 6)
    torch.testing.assert_close(part.weight, whole.weight[:2])
    variances = torch.var(x @ whole.weight.T / whole.weight.norm(dim=1), dim=0)
    assert (variances.diff() < 0).all()


def test_zca_of_fewer_directions_is_flat() -> None:
    x = rows(4)
    made = Whiten(zca=True).fit(x)
    assert made.weight.shape == (6, 6)
    assert torch.linalg.matrix_rank(made.weight) == 3
    torch.testing.assert_close(made.invert(rank=3).apply(made.apply(x)), x)


def released(x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and map as the released code makes them: features that repeat earlier ones become noise."""
    mean = x.mean(0)
    centred = x - mean
    correlated = torch.corrcoef(centred.T).triu(1) > 0.9
    centred = torch.where(correlated.any(dim=0), 0.1 * noise, centred)
    values, vectors = torch.linalg.eigh(torch.cov(centred.T))
    return mean, vectors / values.sqrt()


def test_the_released_code_draws_noise_for_features_that_repeat() -> None:
    x = rows(200)
    x[:, 5] = 2 * x[:, 0] + 0.3 * rows(200, seed=3)[:, 1]
    assert torch.corrcoef(x.T)[0, 5] > 0.9
    generator = torch.Generator().manual_seed(0)
    lengths = []
    for _ in range(2):
        noise = torch.randn(200, 1, generator=generator).double()
        mean, weight = released(x, noise)
        theirs = (x - mean) @ weight
        lengths.append(theirs.norm(dim=1))
        assert (torch.cov(theirs.T) - EYE).abs().max() > 10  # of the embeddings themselves, unlike ours
    assert not torch.allclose(lengths[0], lengths[1])
    y = Whiten().fit(x).apply(x)
    torch.testing.assert_close(torch.cov(y.T), EYE, rtol=0, atol=1e-9)


def test_the_released_code_cannot_invert_without_enough_rows() -> None:
    x = rows(5)
    _, weight = released(x, torch.zeros(5, 1).double())
    assert not weight.isfinite().all() or weight.abs().max() > 1e6
    for made in (Whiten().fit(x), Whiten(shrinkage=0.1).fit(x)):
        assert made.weight.abs().max() < 1e3
        torch.testing.assert_close(made.invert().apply(made.apply(x)), x)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="shrinkage=2"):
        Whiten(shrinkage=2.0)
    with pytest.raises(ConfigError, match="rank=0"):
        Whiten(rank=0)
    with pytest.raises(DataError, match="got a target too"):
        Whiten().fit(rows(9), rows(9))
