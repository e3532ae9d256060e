"""Principal components, held against scikit-learn's."""

import pytest
import torch

from patchclip.embeddings.maps.pca import PCA
from patchclip.errors import ConfigError, DataError
from tests.embeddings._rows import rows


def test_it_is_scikit_learns() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = rows(40)
    theirs = torch.from_numpy(decomposition.PCA(3, svd_solver="full").fit_transform(x.numpy()))
    ours = PCA(3).fit(x).apply(x)
    torch.testing.assert_close(ours * (ours[0] * theirs[0]).sign(), theirs)


def test_all_directions_are_a_rotation() -> None:
    x = rows(40)
    made = PCA().fit(x)
    torch.testing.assert_close(made.weight @ made.weight.T, torch.eye(6).double())
    covariance = torch.cov(made.apply(x).T)
    torch.testing.assert_close(covariance, covariance.diagonal().diag())


def test_what_it_keeps_is_nearest() -> None:
    x = rows(40)
    made = PCA(2).fit(x)
    lost = (made.invert().apply(made.apply(x)) - x).square().sum() / 39
    torch.testing.assert_close(lost, torch.linalg.eigvalsh(torch.cov(x.T))[:4].sum())


def test_signs_are_fixed() -> None:
    x = rows(40)
    first, turned = PCA().fit(x).weight, PCA().fit(-x).weight
    torch.testing.assert_close(first, turned)
    assert (first.gather(1, first.abs().argmax(1, keepdim=True)) > 0).all()


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="dims=0"):
        PCA(0)
    with pytest.raises(DataError, match="dims=7 directions were asked of embeddings of 6"):
        PCA(7).fit(rows(9))
