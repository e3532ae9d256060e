"""What holds for every gradient clipper, ours and those to come."""

import pytest
import torch
from torch import nn

from patchclip import registry
from patchclip.contracts import GradClipper
from tests.stability._networks import network

NAMES = registry.names("stability")


def build(name: str) -> GradClipper:
    found: GradClipper = registry.build("stability", name)
    return found


@pytest.fixture(params=NAMES)
def clipper(request: pytest.FixtureRequest) -> GradClipper:
    return build(request.param)


def test_the_family_is_there() -> None:
    assert {"none", "norm"} <= set(NAMES)


def test_it_is_a_clipper(clipper: GradClipper) -> None:
    assert isinstance(clipper, GradClipper)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_norm_reported_is_the_one_before(clipper: GradClipper, size: float) -> None:
    net = network(size)
    flat = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    stats = clipper(net.named_parameters())
    torch.testing.assert_close(stats.norm, flat.norm())
    assert stats.norm.ndim == stats.threshold.ndim == stats.clipped_share.ndim == 0
    assert 0 <= stats.clipped_share.item() <= 1


def test_gradients_never_grow_nor_turn(clipper: GradClipper) -> None:
    net, before = network(50.0), network(50.0)
    clipper(net.named_parameters())
    for name in ("matrix", "vector", "scalar"):
        ours, earlier = net[name].grad, before[name].grad
        assert (ours.abs() <= earlier.abs() + 1e-6).all()
        assert (ours * earlier >= 0).all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_shows_in_the_norm(clipper: GradClipper, poison: float) -> None:
    net = network()
    net["vector"].grad[2] = poison
    assert not clipper(net.named_parameters()).norm.isfinite()


def test_parameters_without_gradients_stay_without(clipper: GradClipper) -> None:
    net = network()
    clipper(net.named_parameters())
    assert net["unused"].grad is None
    assert net["frozen"].grad is None


def test_no_gradients_at_all_have_norm_zero(clipper: GradClipper) -> None:
    stats = clipper(nn.Linear(2, 2).named_parameters())
    assert stats.norm.item() == 0


def test_zero_gradients_stay_zero(clipper: GradClipper) -> None:
    net = network(0.0)
    assert clipper(net.named_parameters()).norm.item() == 0
    assert all((p.grad == 0).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_keep_their_type(clipper: GradClipper, dtype: torch.dtype) -> None:
    net = network(2.0, dtype)
    stats = clipper(net.named_parameters())
    assert stats.norm.isfinite()
    assert net["matrix"].grad.dtype == dtype
    assert net["matrix"].grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_clipper_goes_on_like_the_first(name: str) -> None:
    first, second = build(name), build(name)
    for step in range(5):
        first(network(10.0**step, seed=step).named_parameters())
    state = first.state_dict()
    second.load_state_dict(state)
    assert second.state_dict() == state
    one, two = network(7.0, seed=9), network(7.0, seed=9)
    stats, others = first(one.named_parameters()), second(two.named_parameters())
    assert (stats.norm, stats.threshold, stats.clipped_share) == (
        others.norm,
        others.threshold,
        others.clipped_share,
    )
    assert torch.equal(one["matrix"].grad, two["matrix"].grad)
