"""No clipping: measured, not touched."""

import torch

from patchclip.stability.none import NoClip
from tests.stability._networks import network


def test_gradients_are_measured_and_not_touched() -> None:
    net, before = network(1e3), network(1e3)
    stats = NoClip()(net.named_parameters())
    flat = torch.cat([p.grad.flatten().double() for p in before.parameters() if p.grad is not None])
    torch.testing.assert_close(stats.norm.double(), flat.norm(), rtol=1e-6, atol=0)
    assert stats.threshold.isposinf()
    assert stats.clipped_share.item() == 0
    for name in ("matrix", "vector", "scalar"):
        assert torch.equal(net[name].grad, before[name].grad)
