"""Clipping by norm against torch's and hand arithmetic."""

import pytest
import torch
from torch import nn

from patchclip.errors import ConfigError
from patchclip.stability.norm import NormClip
from tests.stability._networks import network


@pytest.mark.parametrize("size", [1e-3, 0.5, 30.0, 1e6])
@pytest.mark.parametrize("max_norm", [0.1, 1.0, 25.0])
def test_equal_to_torch(size: float, max_norm: float) -> None:
    ours, theirs = network(size), network(size)
    stats = NormClip(max_norm)(ours.named_parameters())
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
    torch.testing.assert_close(stats.norm, expected)
    for (name, mine), reference in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if reference.grad is None:
            assert mine.grad is None, name
        else:
            torch.testing.assert_close(mine.grad, reference.grad)


def test_three_and_four_by_hand() -> None:
    one, two = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    one.grad, two.grad = torch.tensor([3.0]), torch.tensor([-4.0])
    stats = NormClip(2.5)([("one", one), ("two", two)])
    assert (stats.norm.item(), stats.threshold.item(), stats.clipped_share.item()) == (5.0, 2.5, 1.0)
    assert one.grad.item() == pytest.approx(1.5, rel=1e-5)
    assert two.grad.item() == pytest.approx(-2.0, rel=1e-5)


def test_gradients_below_the_threshold_are_left_alone() -> None:
    net, before = network(0.01), network(0.01)
    stats = NormClip(1.0)(net.named_parameters())
    assert stats.clipped_share.item() == 0
    for name in ("matrix", "vector", "scalar"):
        assert torch.equal(net[name].grad, before[name].grad)


def test_what_is_left_has_the_norm_asked_for() -> None:
    net = network(100.0)
    NormClip(0.7)(net.named_parameters())
    gradients = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    assert gradients.norm().item() == pytest.approx(0.7, rel=1e-4)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan")])
def test_a_threshold_must_be_positive(max_norm: float) -> None:
    with pytest.raises(ConfigError, match=f"max_norm={max_norm}"):
        NormClip(max_norm)
