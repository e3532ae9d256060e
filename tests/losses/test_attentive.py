"""A-CLIP's loss, against the formulas written as loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses.attentive import AttentiveLoss, nt_xent
from patchclip.losses.clip import ClipLoss
from tests.losses._batches import embeddings, scalar


def ready(width: int = 16, **options: float) -> AttentiveLoss:
    """A loss with small heads."""
    torch.manual_seed(0)
    loss = AttentiveLoss(hidden=12, projection=8, **options)  # type: ignore[arg-type]
    loss.build_heads(width)
    return loss


def two_views(b: int = 6) -> Tensor:
    """Embeddings [2, b, 16]."""
    return torch.stack(embeddings(b)).detach()


def test_one_view_is_clips_loss() -> None:
    image, text = embeddings(9)
    for bias in (None, scalar(-3.0)):
        expected = ClipLoss()(image, text, scalar(7.0), bias)["contrastive"]
        torch.testing.assert_close(AttentiveLoss()(image, text, scalar(7.0), bias)["contrastive"], expected)


def test_nt_xent_is_that_of_simclr() -> None:
    first, second = (torch.randn(5, 3, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    rows = [F.normalize(row, dim=0) for row in (*first, *second)]
    losses = []
    for i, row in enumerate(rows):
        logits = {j: math.exp(float(row @ other) / 0.1) for j, other in enumerate(rows) if j != i}
        losses.append(-math.log(logits[(i + 5) % 10] / sum(logits.values())))
    assert nt_xent(first, second, 0.1).item() == pytest.approx(sum(losses) / 10, rel=1e-4)


def test_the_views_are_compared_with_each_other() -> None:
    """The released code compares the first with itself: a change of the second would not count."""
    loss, views = ready(), two_views()
    other = torch.stack([views[0], views[1].roll(1, dims=0)])
    assert loss.between(views, None)["simclr"] < loss.between(other, None)["simclr"]


@torch.no_grad()
def test_byol_is_twice_the_squared_distance_to_the_teacher() -> None:
    loss, views = ready(), two_views()
    teacher = F.normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(3)), dim=-1)
    assert loss.predict is not None
    distances = []
    for view in views:
        for row, target in zip(loss.predict(view), teacher, strict=True):
            distances.append(float((row / row.norm() - target).square().sum()))
    found = loss.between(views, teacher)
    assert found["byol"].item() == pytest.approx(2 * sum(distances) / len(distances), rel=1e-4)
    assert set(loss.between(views, None)) == {"simclr"}


def test_weights_scale_their_terms() -> None:
    views = two_views()
    one, two = (ready(simclr=s, byol=y).between(views, views[0]) for s, y in ((1.0, 1.0), (3.0, 0.5)))
    torch.testing.assert_close(two["simclr"], 3 * one["simclr"])
    torch.testing.assert_close(two["byol"], 0.5 * one["byol"])


def test_heads_and_views_learn_and_the_teacher_does_not() -> None:
    loss, views, teacher = ready(), two_views().requires_grad_(), two_views()[0].requires_grad_()
    sum(loss.between(views, teacher).values(), torch.zeros(())).backward()
    assert views.grad is not None
    assert views.grad.abs().amax(dim=(1, 2)).min() > 0
    assert teacher.grad is None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in loss.parameters())
    assert not list(loss.buffers())


def test_training_the_heads_brings_the_views_together() -> None:
    loss, views = ready(), two_views(16)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        total = torch.stack(list(loss.between(views, views.mean(dim=0)).values())).sum()
        total.backward()
        optimizer.step()
        values.append(total.item())
    assert values[-1] < 0.5 * values[0]


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"train\.views=2"):
        ready().between(torch.cat([two_views(), two_views()[:1]]), None)
    with pytest.raises(ConfigError, match="build_heads"):
        AttentiveLoss().between(two_views(), None)
    for options in ({"temperature": 0.0}, {"simclr": -1.0}, {"byol": -1.0}, {"hidden": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            AttentiveLoss(**options)  # type: ignore[arg-type]


def test_the_loss_is_a_module_without_heads_until_it_knows_the_width() -> None:
    assert list(AttentiveLoss().parameters()) == []
    assert isinstance(ready().project, nn.Module)
