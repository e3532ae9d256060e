"""Scripted streams of gradients: a constant norm, one 50x spike, a drift."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from patchclip.contracts import ClipStats, GradClipper
from tests.stability._networks import network

STEPS, SPIKE_AT = 130, 110
STREAMS: dict[str, list[float]] = {
    "constant": [2.0] * STEPS,
    "spike": [
        (50.0 if step == SPIKE_AT else 1.0) * (1 + 0.1 * math.sin(1.7 * step + 0.5)) for step in range(STEPS)
    ],
    "drift": [3.0 * 0.97**step * (1 + 0.1 * math.sin(2.3 * step)) for step in range(STEPS)],
}
"""Name -> the global norm of each step; the spike comes after every warm-up."""


def of_norm(norm: float, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network whose gradients have this global norm, in another direction for each seed."""
    net = network(1.0, torch.float64, seed).to(torch.float64)
    found = [p.grad for p in net.parameters() if p.grad is not None]
    factor = norm / torch.cat([g.flatten() for g in found]).norm()
    with torch.no_grad():
        for p in net.parameters():
            if p.grad is not None:
                gradient, p.grad = p.grad * factor, None
                p.data = p.data.to(dtype)
                p.grad = gradient.to(dtype)
    return net


def play(clipper: GradClipper, stream: list[float], first: int = 0) -> list[tuple[nn.Module, ClipStats]]:
    """What the clipper makes of each step of a stream: the network afterwards, and what it reported."""
    played = []
    for step, norm in enumerate(stream, first):
        net = of_norm(norm, step)
        played.append((net, clipper(net.named_parameters())))
    return played


def norm_of(net: nn.Module) -> float:
    """Global norm of a network's gradients."""
    return float(
        torch.cat([p.grad.flatten().double() for p in net.parameters() if p.grad is not None]).norm()
    )


def same(one: Any, other: Any) -> bool:
    """Whether two states hold the same values, bit for bit."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


def copied(state: Any) -> Any:
    """A state whose tensors are copies."""
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return state.clone() if isinstance(state, Tensor) else state


def go_the_same_way(
    stream: str,
    clipper: GradClipper,
    ours: tuple[Any, torch.optim.Optimizer],
    theirs: tuple[Any, torch.optim.Optimizer],
) -> None:
    """Our clipper with a plain optimizer, and one that clips by itself, move the same weights alike."""
    (net, plain), (other, clipping) = ours, theirs
    names = [name for name, weight in net.named_parameters() if weight.grad is not None]
    for step, norm in enumerate(STREAMS[stream]):
        fresh: Any = of_norm(norm, step, torch.float64)
        for name in names:
            net[name].grad, other[name].grad = fresh[name].grad, fresh[name].grad.clone()
        clipper(net.named_parameters())
        plain.step()
        clipping.step()
    for name in names:
        assert net[name].abs().max() > 0
        torch.testing.assert_close(net[name], other[name], rtol=1e-4, atol=1e-7)
