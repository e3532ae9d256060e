"""Stable-SPAM against its equations in plain Python and pytorch_optimizer's StableSPAM."""

import math
from typing import Any

import pytest
import torch
from pytorch_optimizer import StableSPAM as TheirStableSPAM
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.stability.stable_spam import StableSPAM
from tests.stability._networks import network
from tests.stability._streams import STREAMS, go_the_same_way, norm_of, of_norm, play

GRADIENTS = ("matrix", "vector", "scalar")


class Reference:
    """Algorithm 1 for one tensor over a list of floats, with means that start at zero and are corrected."""

    def __init__(self, gamma1: float = 0.7, gamma2: float = 0.9, theta: float = 0.999) -> None:
        self.gamma1, self.gamma2, self.theta = gamma1, gamma2, theta
        self.most = self.norm = self.square = 0.0
        self.step = 0

    def __call__(self, gradient: Tensor) -> list[float]:
        entries = [float(v) for v in gradient.double().flatten()]
        self.step += 1
        largest = max(abs(v) for v in entries)
        self.most = self.theta * self.most + (1 - self.theta) * largest
        bound = self.most / (1 - self.theta**self.step)
        cut = [v / largest * bound if abs(v) > bound else v for v in entries]
        norm = math.sqrt(sum(v**2 for v in cut))
        self.norm = self.gamma1 * self.norm + (1 - self.gamma1) * norm
        self.square = self.gamma2 * self.square + (1 - self.gamma2) * norm**2
        mean = self.norm / (1 - self.gamma1**self.step)
        size = mean / (math.sqrt(self.square / (1 - self.gamma2**self.step)) + 1e-8)
        return [v / norm * size for v in cut]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("theta", [0.9, 0.999])
def test_the_equations(stream: str, theta: float) -> None:
    references = {name: Reference(theta=theta) for name in GRADIENTS}
    for step, (net, stats) in enumerate(play(StableSPAM(theta=theta), STREAMS[stream])):
        before = of_norm(STREAMS[stream][step], step)
        for name in GRADIENTS:
            expected = references[name](before[name].grad)
            assert net[name].grad.flatten().tolist() == pytest.approx(expected, rel=2e-4), (step, name)
        assert stats.threshold.item() == pytest.approx(norm_of(net), rel=1e-5)


@pytest.mark.parametrize("stream", STREAMS)
def test_equal_to_pytorch_optimizer(stream: str) -> None:
    """Its optimizer after both steps is an AdamW: fed our gradients, AdamW goes the same way."""
    ours, theirs = of_norm(1.0, 0, torch.float64), of_norm(1.0, 0, torch.float64)
    options: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1, "eps": 1e-8}
    mine = torch.optim.AdamW([ours[name] for name in GRADIENTS], **options)
    reference = TheirStableSPAM([theirs[name] for name in GRADIENTS], update_proj_gap=10**9, **options)
    go_the_same_way(stream, StableSPAM(), (ours, mine), (theirs, reference))


@pytest.mark.parametrize("scale", [1e-7, 1e5])
def test_the_scale_of_the_gradients_does_not_matter(scale: float) -> None:
    ours = play(StableSPAM(eps=0.0), [scale * norm for norm in STREAMS["spike"]])
    plain = play(StableSPAM(eps=0.0), STREAMS["spike"])
    for (net, _), (reference, _) in zip(ours, plain, strict=True):
        for name in GRADIENTS:
            torch.testing.assert_close(net[name].grad, reference[name].grad, rtol=1e-4, atol=1e-7)


def test_the_same_gradient_again_and_again_has_norm_one_and_is_not_cut() -> None:
    clipper = StableSPAM()
    for _ in range(60):
        net, before = network(3.0), network(3.0)
        stats = clipper(net.named_parameters())
        assert stats.clipped_share.item() == 0
        for name in GRADIENTS:
            expected = before[name].grad / before[name].grad.norm()
            torch.testing.assert_close(net[name].grad, expected, rtol=1e-5, atol=1e-7)


def test_one_entry_that_spikes_is_cut_and_the_others_keep_their_direction() -> None:
    clipper = StableSPAM()
    for _ in range(50):
        clipper(network(1.0).named_parameters())
    net, before = network(1.0), network(1.0)
    before["vector"].grad[1] *= 1e4
    net["vector"].grad.copy_(before["vector"].grad)
    stats = clipper(net.named_parameters())
    assert stats.clipped_share.item() == pytest.approx(1 / 3)
    others = torch.tensor([0, 2, 3, 4])
    ratio = net["vector"].grad[others] / before["vector"].grad[others]
    torch.testing.assert_close(ratio, ratio[:1].expand(4), rtol=1e-5, atol=0)
    assert net["vector"].grad[1] / before["vector"].grad[1] < 0.1 * ratio[0]
    assert net["vector"].grad[1].sign() == before["vector"].grad[1].sign()


def test_a_spike_of_fifty_leaves_a_step_of_usual_size() -> None:
    lengths = [norm_of(net) for net, _ in play(StableSPAM(), STREAMS["spike"])]
    assert max(lengths) < 1.3 * math.sqrt(3)  # three tensors of about 1
    assert min(lengths) > 0.5


def test_a_reset_of_the_momentum_does_not_touch_its_counters() -> None:
    """The released code corrects max|g| with Adam's step: after the reset it would be divided by 0.002."""
    clipper = StableSPAM()
    play(clipper, STREAMS["drift"][:30])
    state = clipper.state_dict()
    assert all(row[3].item() == 30 for row in state.values())
    assert state["matrix"][0].item() < 2 * STREAMS["drift"][0]


def test_a_zero_gradient_leaves_the_means_alone() -> None:
    clipper = StableSPAM()
    play(clipper, [1.0] * 5)
    before = {name: row.clone() for name, row in clipper.state_dict().items()}
    net = of_norm(1.0, 5)
    net["vector"].grad.zero_()
    clipper(net.named_parameters())
    after = clipper.state_dict()
    assert torch.equal(after["vector"], before["vector"])
    assert not torch.equal(after["matrix"], before["matrix"])
    assert (net["vector"].grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    ours, exact = StableSPAM(), StableSPAM()
    for step in range(12):
        net = of_norm(STREAMS["drift"][step], step, dtype)
        reference = of_norm(STREAMS["drift"][step], step)
        for name in GRADIENTS:
            reference[name].grad = net[name].grad.float()
        ours(net.named_parameters())
        exact(reference.named_parameters())
        for name in GRADIENTS:
            torch.testing.assert_close(net[name].grad.float(), reference[name].grad, rtol=4e-2, atol=1e-3)


@pytest.mark.parametrize("options", [{"gamma1": 1.0}, {"gamma2": 0.0}, {"theta": 1.5}, {"eps": -1.0}])
def test_options_have_ranges(options: dict[str, float]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        StableSPAM(**options)
