"""AdaGC against its equations in plain Python and pytorch_optimizer's AdaGC."""

import math

import pytest
import torch
from pytorch_optimizer import AdaGC as TheirAdaGC
from torch import nn

from patchclip.errors import ConfigError
from patchclip.stability.adagc import AdaGC
from tests.stability._networks import network
from tests.stability._streams import STREAMS, go_the_same_way, norm_of, of_norm, play

GRADIENTS = ("matrix", "vector", "scalar")


class Reference:
    """Algorithm 1 over plain floats: one norm a tensor goes in, one factor a tensor comes out."""

    def __init__(self, relative: float = 1.05, beta: float = 0.98, warmup: int = 100) -> None:
        self.relative, self.beta, self.warmup = relative, beta, warmup
        self.gamma: dict[str, float] = {}
        self.step = 0

    def factors(self, norms: dict[str, float]) -> dict[str, float]:
        self.step += 1
        whole = math.sqrt(sum(norm**2 for norm in norms.values()))
        out = {}
        for name, norm in norms.items():
            if self.step < self.warmup:
                out[name] = min(1.0, 1.0 / whole)
                self.gamma[name] = min(self.gamma.get(name, math.inf), norm * out[name])
            else:
                out[name] = min(1.0, self.relative * self.gamma[name] / norm)
                left = norm * out[name]
                self.gamma[name] = self.beta * self.gamma[name] + (1 - self.beta) * left
        return out


def each_norm(net: nn.Module) -> dict[str, float]:
    return {name: float(net[name].grad.double().norm()) for name in GRADIENTS}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("warmup", [2, 30, 100])
def test_the_equations(stream: str, warmup: int) -> None:
    reference = Reference(warmup=warmup)
    for step, (net, stats) in enumerate(play(AdaGC(warmup=warmup), STREAMS[stream])):
        before = of_norm(STREAMS[stream][step], step)
        factors = reference.factors(each_norm(before))
        for name in GRADIENTS:
            expected = before[name].grad * factors[name]
            torch.testing.assert_close(net[name].grad, expected, rtol=1e-4, atol=1e-9)
        assert stats.clipped_share.item() == pytest.approx(sum(f < 1 for f in factors.values()) / 3)
        assert stats.threshold.item() == pytest.approx(norm_of(net), rel=1e-5)


@pytest.mark.parametrize("stream", STREAMS)
def test_equal_to_pytorch_optimizer(stream: str) -> None:
    """Its optimizer after its clipping is an AdamW: fed our gradients, AdamW goes the same way."""
    ours, theirs = of_norm(1.0, 0, torch.float64), of_norm(1.0, 0, torch.float64)
    options = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1, "eps": 1e-12}
    mine = torch.optim.AdamW([ours[name] for name in GRADIENTS], **options)
    reference = TheirAdaGC([theirs[name] for name in GRADIENTS], warmup_steps=20, **options)
    go_the_same_way(stream, AdaGC(warmup=20), (ours, mine), (theirs, reference))


def test_a_spike_in_one_tensor_leaves_all_others_bit_for_bit() -> None:
    clipper = AdaGC(relative=3.0, absolute=1e9, warmup=5)
    for _ in range(10):
        clipper(network(1.0).named_parameters())
    net, before = network(1.0), network(1.0)
    net["vector"].grad.mul_(1000)
    stats = clipper(net.named_parameters())
    assert stats.clipped_share.item() == pytest.approx(1 / 3)
    for name in ("matrix", "scalar"):
        assert torch.equal(net[name].grad, before[name].grad)
    torch.testing.assert_close(net["vector"].grad, 3 * before["vector"].grad, rtol=1e-5, atol=0)


def test_after_the_warm_up_no_tensor_is_longer_than_its_bound() -> None:
    clipper = AdaGC(warmup=5)
    play(clipper, STREAMS["spike"][:20])
    for step, norm in enumerate(STREAMS["spike"][20:], 20):
        gamma = {name: row[0].item() for name, row in clipper.state_dict().items()}
        ((net, _),) = play(clipper, [norm], step)
        for name, length in each_norm(net).items():
            assert length <= 1.05 * gamma[name] * (1 + 1e-5)


def test_a_thousandfold_spike_raises_the_mean_by_a_thousandth() -> None:
    clipper = AdaGC(absolute=1e9, warmup=5)
    for _ in range(10):
        clipper(network(1.0).named_parameters())
    before = {name: row[0].item() for name, row in clipper.state_dict().items()}
    clipper(network(1000.0).named_parameters())
    for name, row in clipper.state_dict().items():
        assert row[0].item() == pytest.approx(before[name] * (1 + 0.02 * 0.05), rel=1e-5)


def test_the_mean_follows_a_norm_that_falls() -> None:
    clipper = AdaGC(absolute=1e9, warmup=2)
    for step in range(300):
        net = network(max(0.1, 0.96**step))
        clipper(net.named_parameters())
    gamma = {name: row[0].item() for name, row in clipper.state_dict().items()}
    assert gamma == pytest.approx(each_norm(network(0.1)), rel=5e-2)


def test_without_a_bound_it_is_off_after_the_warm_up() -> None:
    clipper = AdaGC(relative=math.inf, absolute=1e9, warmup=3)
    for step, (net, stats) in enumerate(play(clipper, STREAMS["spike"])):
        assert stats.clipped_share.item() == 0
        assert torch.equal(net["matrix"].grad, of_norm(STREAMS["spike"][step], step)["matrix"].grad)


def test_a_zero_gradient_in_the_warm_up_does_not_stop_a_tensor_for_ever() -> None:
    ours, theirs = AdaGC(absolute=1e9, warmup=3), nn.Parameter(torch.zeros(3))
    their = TheirAdaGC([theirs], lr=1.0, lambda_abs=1e9, warmup_steps=3, betas=(0.0, 0.0))
    weight = nn.Parameter(torch.zeros(3))
    for size in (1.0, 0.0, 1.0, 1.0):
        weight.grad, theirs.grad = torch.full((3,), size), torch.full((3,), size)
        ours([("weight", weight)])
        their.step()
    assert weight.grad.tolist() == [1.0] * 3
    assert their.state[theirs]["gamma"].item() < 1e-6  # what ours differs from


def test_a_parameter_that_is_thawed_later_has_its_own_warm_up() -> None:
    clipper = AdaGC(absolute=1e9, warmup=4)
    for step in range(8):
        net = network(1.0)
        if step < 5:
            net["vector"].grad = None
        clipper(net.named_parameters())
    state = clipper.state_dict()
    assert (state["matrix"][1].item(), state["vector"][1].item()) == (8.0, 3.0)
    net, before = network(1000.0), network(1000.0)
    clipper(net.named_parameters())
    assert each_norm(net)["matrix"] < 2e-3 * each_norm(before)["matrix"]
    assert each_norm(net)["vector"] < 2e-3 * each_norm(before)["vector"]  # its fourth step


@pytest.mark.parametrize("options", [{"relative": 0.9}, {"beta": 1.0}, {"absolute": 0.0}, {"warmup": 0}])
def test_options_have_ranges(options: dict[str, float]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        AdaGC(**options)
