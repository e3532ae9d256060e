"""Alignment, uniformity and points on arcs against their definitions, pair by pair."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.losses._sphere import NEAR, alignment, between, uniformity
from tests.losses._batches import embeddings, scalar


def share(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def pair(angle: float) -> tuple[Tensor, Tensor]:
    first = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[math.cos(angle), math.sin(angle), 0.0]], dtype=torch.float64)
    return first, second


def test_uniformity_is_the_mean_over_distinct_pairs() -> None:
    x, y = embeddings(9, dtype=torch.float64)
    within = torch.pdist(x).square().mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(x), within)
    off = ~torch.eye(9, dtype=torch.bool)
    across = torch.cdist(x, y)[off].square().mul(-2).exp().mean().log()
    torch.testing.assert_close(uniformity(x, y), across)


def test_uniformity_of_known_sets() -> None:
    assert uniformity(torch.eye(8)).item() == pytest.approx(-4)  # orthogonal: squared distance 2
    same = F.normalize(torch.ones(5, 3), dim=1)
    assert uniformity(same).item() == pytest.approx(0, abs=1e-5)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(opposite).item() == pytest.approx(-8)
    spread = F.normalize(torch.randn(2000, 512, generator=torch.Generator().manual_seed(0)), dim=1)
    assert uniformity(spread).item() == pytest.approx(-4, abs=0.03)


def test_one_row_lies_together_with_nothing() -> None:
    x, y = embeddings(1)
    found = uniformity(x, y)
    assert found.item() == 0
    assert torch.autograd.grad(found, x)[0].abs().max() == 0


def test_alignment_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert alignment(x, y).item() == pytest.approx(1)  # (2 + 0) / 2
    assert alignment(x, x).item() == 0


@pytest.mark.parametrize("angle", [0.01, 0.3, math.pi / 2, 2.5])
@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 1.0])
def test_a_point_of_the_arc_stands_at_its_angle(angle: float, part: float) -> None:
    first, second = pair(angle)
    found = between(first, second, share(part))
    assert found.norm().item() == pytest.approx(1)
    from_first = (1 - part) * angle
    expected = [[math.cos(from_first), math.sin(from_first), 0.0]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_both_formulas_meet_where_they_change(part: float) -> None:
    """Value and gradient, on either side of the threshold, in double precision."""
    results = []
    for cosine in (1 - NEAR * (1 - 1e-9), 1 - NEAR * (1 + 1e-9)):
        first, second = (each.requires_grad_() for each in pair(math.acos(cosine)))
        point = between(first, second, share(part))
        results.append((point, *torch.autograd.grad(point[0, 1], (first, second))))
    for inner, outer in zip(*results, strict=True):
        torch.testing.assert_close(inner, outer, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_ends_that_coincide_or_are_opposite_give_finite_numbers(dtype: torch.dtype) -> None:
    x = F.normalize(torch.ones(3, 5), dim=1).to(dtype)
    for y in (x, -x):
        first, second = x.clone().requires_grad_(), y.clone().requires_grad_()
        point = between(first, second, share(0.3))
        assert point.isfinite().all()
        assert point.norm(dim=1).max() <= 1.01
        point.sum().backward()
        assert first.grad is not None
        assert first.grad.isfinite().all()
    torch.testing.assert_close(between(x, x, share(0.3)), x, check_dtype=False, atol=1e-2, rtol=0)


def test_gradients_near_and_far_are_those_of_finite_differences() -> None:
    x, _ = embeddings(4, 5, dtype=torch.float64)
    close = F.normalize(x.detach() + 1e-3, dim=1).requires_grad_()
    for other in (close, embeddings(4, 5, seed=1, dtype=torch.float64)[0]):
        part = scalar(0.3, torch.float64)
        assert torch.autograd.gradcheck(between, (x, other, part))
    assert torch.autograd.gradcheck(uniformity, (x, close))
    assert torch.autograd.gradcheck(uniformity, (x,))
