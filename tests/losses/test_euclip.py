"""Distances, arcs and cones against closed forms; what the released code gives where points coincide."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.losses import _geometry as geometry
from patchclip.losses.clip import ClipLoss
from patchclip.losses.euclip import EuCLIPLoss
from patchclip.models.similarity import Lifted
from tests.losses._batches import embeddings, scalar

METRICS = list(geometry.METRICS)
FLAT = ["euclidean", "euclidean_squared", "inner"]
CURVED = ["hyperbolic", "hyperbolic_inner", "hyperbolic_squared"]
WIDTH = 6


def raw(
    b: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64, size: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Embeddings of many lengths, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    x = size * torch.randn(b, WIDTH, generator=generator, dtype=torch.float64)
    y = x + torch.randn(b, WIDTH, generator=generator, dtype=torch.float64)
    return x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def one(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def poincare(x: Tensor, y: Tensor, c: float) -> Tensor:
    """Distances of the exponential maps of x and y, computed in the ball instead of on the hyperboloid."""

    def ball(points: Tensor) -> Tensor:
        length = points.norm(dim=1, keepdim=True)
        return torch.tanh(math.sqrt(c) * length / 2) * points / length

    u, v = ball(x), ball(y)
    far = torch.cdist(u, v).square() / torch.outer(1 - u.square().sum(1), 1 - v.square().sum(1))
    return torch.acosh(1 + 2 * far) / math.sqrt(c)


def test_squared_distances_of_unit_vectors_are_cosines_at_twice_the_scale() -> None:
    image, text = embeddings(9, dtype=torch.float64)
    grown = [(x.detach() * 16**0.5).requires_grad_() for x in (image, text)]  # the loss takes 1 / sqrt(16)
    found = EuCLIPLoss()(*grown, one(7.0))["contrastive"]
    expected = ClipLoss()(image, text, one(14.0))["contrastive"]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    found.backward()
    expected.backward()
    tangent = [x.grad - (x.grad * x).sum(1, keepdim=True) * x for x in (image, text)]  # type: ignore[operator]
    for x, y, along in zip(grown, (image, text), tangent, strict=True):
        assert x.grad is not None
        assert y.grad is not None
        across = x.grad - (x.grad * y).sum(1, keepdim=True) * y
        torch.testing.assert_close(across * 4, along, rtol=1e-9, atol=1e-12)


def test_cosines_are_clip() -> None:
    image, text = embeddings(9)
    found = EuCLIPLoss("cosine")(image, text, scalar(11.0), scalar(-3.0))
    torch.testing.assert_close(found, ClipLoss()(image, text, scalar(11.0), scalar(-3.0)))


def test_tables_are_those_of_other_formulas() -> None:
    x, y = (each.detach() for each in raw())
    unit = [each / each.norm(dim=1, keepdim=True) for each in (x, y)]
    expected = {
        "cosine": x @ y.T,
        "inner": x @ y.T,
        "euclidean": -torch.cdist(x, y),
        "euclidean_squared": -torch.cdist(x, y).square(),
        "elliptic": -torch.acos(unit[0] @ unit[1].T),
        "hyperbolic": -poincare(x, y, 0.3),
        "hyperbolic_inner": -torch.cosh(math.sqrt(0.3) * poincare(x, y, 0.3)) / 0.3,
        "hyperbolic_squared": -poincare(x, y, 0.3).square(),
    }
    assert expected.keys() == geometry.METRICS.keys()
    for name, table in expected.items():
        points = unit if name == "elliptic" else (x, y)
        found = geometry.METRICS[name](points[0], points[1], one(0.3))
        torch.testing.assert_close(found, table, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("power", [2, 4])
def test_the_hyperboloid_is_flat_where_its_curvature_vanishes(power: int) -> None:
    x, y = (each.detach() for each in raw(size=0.7))
    apart = [
        (geometry.hyperbolic(x, y, one(c)) - geometry.euclidean(x, y, 1.0)).abs().max()
        for c in (10.0**-power, 10.0 ** -(power + 1))
    ]
    assert apart[0] < 10.0 ** (1 - power)
    assert apart[0] / apart[1] == pytest.approx(10, rel=0.1)  # of first order in c


@pytest.mark.parametrize("metric", METRICS)
def test_gradients_are_those_of_finite_differences(metric: str) -> None:
    sphere = metric in ("cosine", "elliptic")
    loss = EuCLIPLoss(metric, 0.0 if sphere else 0.4, 0.3).double()
    image, text = embeddings(4, WIDTH, dtype=torch.float64) if sphere else raw(4)
    learnt = tuple(loss.parameters())
    inputs = (image, text, scalar(2.0, torch.float64), *learnt)
    assert torch.autograd.gradcheck(lambda *given: total(loss(*given[:3])), inputs)
    assert len(learnt) == (3 if metric in CURVED else 0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_that_coincide_have_finite_gradients(metric: str, dtype: torch.dtype) -> None:
    weight = 0.0 if metric in ("cosine", "elliptic") else 1.0
    x, _ = embeddings(4, WIDTH, dtype=dtype)
    nothing = torch.zeros(4, WIDTH, dtype=dtype)
    for image, text in ((x, x), (x, -x), (x, nothing), (nothing, x), (nothing, nothing), (x, 3 * x)):
        leaves = [each.detach().clone().requires_grad_() for each in (image, text)]
        loss = total(EuCLIPLoss(metric, weight)(*leaves, scalar(5.0, dtype)))
        loss.backward()
        assert loss.isfinite()
        assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


def test_the_root_has_a_bounded_slope() -> None:
    least = torch.finfo(torch.float32).eps
    square = torch.tensor([-1.0, 0.0, 1e-30, least / 4, least, 4.0], requires_grad=True)
    found = geometry.root(square)
    torch.testing.assert_close(found[-2:], square[-2:].sqrt())
    assert found[:2].tolist() == [0, 0]
    assert found[3].item() == pytest.approx(least**0.5 / 4)  # the line to the first exact one
    [slope] = torch.autograd.grad(found.sum(), square)
    assert slope.max() <= 1.01 * least**-0.5


def test_the_released_formulas_give_nan_where_points_coincide() -> None:
    x = torch.eye(3, dtype=torch.float64, requires_grad=True)
    squared = x.square().sum(1, keepdim=True) - 2 * x @ x.T.detach() + 1  # euclidean_distance of the branch
    [grad] = torch.autograd.grad(squared.sqrt().sum(), x)
    assert grad.isnan().any()
    [grad] = torch.autograd.grad(torch.acos(x @ x.T.detach()).sum(), x)  # nsphere_arc
    assert not grad.isfinite().all()
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    step = torch.ones(1, 3, dtype=torch.float64) - zero  # euclidean_entailment of a text at the origin
    cosine = (step * zero).sum(-1) / (step.norm(dim=-1) * zero.norm(dim=-1))
    assert torch.acos(cosine).isnan().all()


@pytest.mark.parametrize("metric", FLAT + CURVED)
@pytest.mark.parametrize("factor", [1.01, 2.0, 5.0])
def test_an_image_straight_behind_its_text_is_entailed(metric: str, factor: float) -> None:
    text = raw()[1].detach()
    terms = EuCLIPLoss(metric, 0.2)(factor * text, text, one(1.0))
    assert terms["entailment"] == 0


@pytest.mark.parametrize("metric", ["euclidean_squared", "hyperbolic"])
def test_an_image_before_its_text_is_not_entailed(metric: str) -> None:
    text = raw()[1].detach()
    x = text / WIDTH**0.5
    length = x.norm(dim=1)
    share = 0.1 / length if metric == "euclidean_squared" else 0.2 / length.sinh()
    expected = (math.pi - torch.asin(share.clamp(max=1))).mean()
    terms = EuCLIPLoss(metric, 0.2)(0.5 * text, text, one(1.0))
    torch.testing.assert_close(terms["entailment"], 0.2 * expected, rtol=1e-6, atol=0)


def test_the_exterior_angle_and_the_aperture_by_hand() -> None:
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    across = x + torch.tensor([[0.0, 3.0]], dtype=torch.float64)
    found = geometry.euclidean_excess(x, across, None, 1.0)
    torch.testing.assert_close(found, one(math.pi / 2 - math.asin(1 / 2))[None])
    assert geometry.euclidean_excess(x, across, None, 5.0) == 0  # within the radius all is entailed


def test_hyperbolic_cones_are_flat_ones_where_the_curvature_vanishes() -> None:
    x, y = (each.detach() for each in raw(20, size=0.7))
    c = 1e-5
    found = geometry.hyperbolic_excess(x, y, one(c), 0.3 * c**0.5 / 2)
    torch.testing.assert_close(found, geometry.euclidean_excess(x, y, None, 0.3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_a_trained_model_is_scored_by_what_it_was_trained_with(metric: str) -> None:
    loss = EuCLIPLoss(metric).double()
    with torch.no_grad():
        for number, parameter in enumerate(loss.parameters()):
            parameter.fill_(0.2 - 0.1 * number)
    image, text = embeddings(5, WIDTH, dtype=torch.float64) if loss.unit_length else raw()
    expected = geometry.METRICS[metric](*loss.points(image, text)).detach()
    settings = loss.similarity(WIDTH)
    assert settings or metric == "cosine"
    lifted = Lifted(**(settings or {"metric": "inner"}))
    found = lifted.scores(lifted.image(image.detach()) @ lifted.text(text.detach()).T)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_the_curvature_stays_within_its_bounds() -> None:
    loss = EuCLIPLoss("hyperbolic")
    for logarithm, expected in ((-9.0, 0.1), (0.0, 1.0), (9.0, 10.0)):
        with torch.no_grad():
            loss.log_curvature.fill_(logarithm)
        assert loss.similarity(WIDTH)["curvature"] == pytest.approx(expected)
        assert loss.points(*raw())[2].item() == pytest.approx(expected)


@pytest.mark.parametrize(("logarithm", "bound"), [(-2.4, 0.1), (2.4, 10.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_curvature_at_its_bound_comes_back(logarithm: float, bound: float, dtype: torch.dtype) -> None:
    loss = EuCLIPLoss("hyperbolic").to(dtype)
    with torch.no_grad():
        loss.log_curvature.fill_(logarithm)
    released = torch.tensor(logarithm, requires_grad=True)
    released.exp().clamp(0.1, 10).backward()
    assert released.grad == 0  # so in the branch it stays where it is
    saved = loss.similarity(WIDTH)["curvature"]  # as after the last step of a run, with no forward behind it
    curvature = loss.points(*raw())[2]
    assert curvature.item() == saved == pytest.approx(bound, rel=1e-6)
    inwards = curvature if bound > 1 else -curvature
    inwards.backward()
    torch.optim.SGD([loss.log_curvature], lr=0.01).step()
    assert 0.1 < loss.points(*raw())[2].item() < 10
    assert loss.points(*raw())[2].item() != pytest.approx(bound, rel=1e-4)


def test_curvature_and_factors_are_learnt() -> None:
    loss = EuCLIPLoss("hyperbolic", 0.2)
    total(loss(*raw(), one(1.0))).backward()
    assert {name for name, _ in loss.named_parameters()} == {"log_image", "log_text", "log_curvature"}
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite()
        assert parameter.grad != 0


@pytest.mark.parametrize("metric", FLAT + CURVED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_full(metric: str, dtype: torch.dtype) -> None:
    image, text = raw(16, dtype=dtype)
    loss = EuCLIPLoss(metric, 0.2)
    found = total(loss(image, text, scalar(1.0, dtype)))
    expected = total(loss(image.float(), text.float(), scalar(1.0)))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=0.02)


def test_far_points_of_the_hyperboloid_stay_finite() -> None:
    image, text = raw(size=1e4)
    terms = EuCLIPLoss("hyperbolic", 0.2)(image, text, one(100.0))
    total(terms).backward()
    assert total(terms).isfinite()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_lengths_count() -> None:
    image, text = (each.detach() for each in raw())
    loss = EuCLIPLoss()
    assert not loss.unit_length
    assert loss(image, 3 * text, one(1.0)) != loss(image, text, one(1.0))
    assert EuCLIPLoss("cosine").unit_length
    assert EuCLIPLoss("elliptic").unit_length


def test_guessing_is_known_without_cones_alone() -> None:
    for metric in METRICS:
        assert EuCLIPLoss(metric).chance(12) == pytest.approx(math.log(12))
    assert EuCLIPLoss(entailment_weight=0.1).chance(12) is None
    same = torch.ones(12, WIDTH)
    assert EuCLIPLoss()(same, same, one(1.0))["contrastive"].item() == pytest.approx(math.log(12))


def test_squared_distances_start_with_the_papers_scale() -> None:
    assert EuCLIPLoss().initial_logits == (1.0, None)
    assert EuCLIPLoss(entailment_weight=0.1).initial_logits == (math.exp(-1), None)
    assert EuCLIPLoss("hyperbolic_squared").initial_logits == (1.0, None)
    assert all(
        EuCLIPLoss(metric).initial_logits is None for metric in METRICS if not metric.endswith("_squared")
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": "manhattan"}, "metric='manhattan' must be one of"),
        ({"entailment_weight": -0.1}, "at least 0"),
        ({"entailment_weight": math.nan}, "at least 0"),
        ({"metric": "cosine", "entailment_weight": 0.1}, "no cones on the sphere"),
        ({"min_radius": 0.0}, "at least 1e-6"),
    ],
)
def test_an_option_outside_its_range_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EuCLIPLoss(**options)
