"""Procrustes finds a rotation that was planted, and the best one where there is none."""

import math

import pytest
import torch
from torch import Tensor

from patchclip.embeddings import feature_stats
from patchclip.embeddings.maps import procrustes
from patchclip.embeddings.maps.procrustes import Procrustes
from patchclip.errors import DataError
from tests.embeddings._rows import rows


def orthogonal(seed: int, width: int = 6) -> Tensor:
    drawn = torch.randn(width, width, generator=torch.Generator().manual_seed(seed)).double()
    return torch.linalg.qr(drawn)[0]


def test_a_planted_rotation_is_found() -> None:
    x, turn = rows(40), orthogonal(1)
    made = Procrustes().fit(x, x @ turn.T + 3)
    torch.testing.assert_close(made.weight, turn)
    torch.testing.assert_close(made.apply(x), x @ turn.T + 3)
    torch.testing.assert_close(Procrustes(center=False).fit(x, x @ turn.T).weight, turn)


def test_it_is_scipys() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    x, y = rows(40), rows(40, seed=1)
    turn, _ = linalg.orthogonal_procrustes(x.numpy(), y.numpy())
    torch.testing.assert_close(Procrustes(center=False).fit(x, y).weight, torch.from_numpy(turn).T)


def test_nothing_orthogonal_comes_nearer() -> None:
    x, y = rows(40), rows(40, seed=1)
    made = Procrustes().fit(x, y)
    torch.testing.assert_close(made.weight @ made.weight.T, torch.eye(6).double())
    best = (made.apply(x) - y).norm()
    for seed in range(50):
        other = (x - x.mean(0)) @ orthogonal(seed).T + y.mean(0)
        assert (other - y).norm() > best


def test_a_reflection_is_used_only_where_it_may_be() -> None:
    angle = math.radians(30)
    x = rows(20, 2)
    mirrored = (
        x @ torch.tensor([[math.cos(angle), math.sin(angle)], [math.sin(angle), -math.cos(angle)]]).double()
    )
    assert torch.linalg.det(Procrustes().fit(x, mirrored).weight).item() == pytest.approx(-1)
    turned = Procrustes(reflect=False).fit(x, mirrored)
    assert torch.linalg.det(turned.weight).item() == pytest.approx(1)
    best = (turned.apply(x) - mirrored).norm()
    for degrees in range(0, 360, 5):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = torch.tensor([[c, -s], [s, c]]).double()
        assert ((x - x.mean(0)) @ turn.T + mirrored.mean(0) - mirrored).norm() >= best - 1e-9


def test_many_rows_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rows(40), rows(40, seed=1)
    expected = Procrustes().fit(x, y).weight
    monkeypatch.setattr(procrustes, "CHUNK", 7)
    monkeypatch.setattr(feature_stats, "CHUNK", 7)
    torch.testing.assert_close(Procrustes().fit(x, y).weight, expected)


def test_it_needs_a_target_of_the_same_shape() -> None:
    with pytest.raises(DataError, match=r"needs a target of the shape of the source.*got None"):
        Procrustes().fit(rows(9))
    with pytest.raises(DataError, match=r"got \[8, 6\]"):
        Procrustes().fit(rows(9), rows(8))
