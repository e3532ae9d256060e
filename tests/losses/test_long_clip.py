"""Primary component matching against numpy, torch's own SVD and hand-made batches."""

import math

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.losses._components import principal
from patchclip.losses.long_clip import LongClipLoss
from tests.losses._batches import embeddings, scalar


def rows(b: int, e: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return F.normalize(torch.randn(b, e, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def by_svd(x: Tensor, k: int) -> Tensor:
    """The formula as torch differentiates it."""
    mean = x.mean(dim=0)
    found: Tensor = torch.linalg.svd(x - mean, full_matrices=False)
    first = found[2][:k]
    return mean + (x - mean) @ first.T @ first


SHAPES = [(9, 5, 2), (5, 9, 2), (6, 6, 3), (12, 3, 1)]


@pytest.mark.parametrize("b, e, k", SHAPES)
def test_rebuilt_rows_are_those_of_numpy_s_eigenvectors(b: int, e: int, k: int) -> None:
    x = rows(b, e)
    centred = x.numpy() - x.numpy().mean(axis=0)
    _, vectors = numpy.linalg.eigh(centred.T @ centred)
    first = vectors[:, -k:]
    expected = x.numpy().mean(axis=0) + centred @ first @ first.T
    found = principal(x, k)
    torch.testing.assert_close(found, torch.tensor(expected))
    assert int(torch.linalg.matrix_rank(found - found.mean(dim=0), rtol=1e-10)) == k


@pytest.mark.parametrize("b, e, k", SHAPES)
def test_gradients_are_those_of_finite_differences_and_of_torch_s_svd(b: int, e: int, k: int) -> None:
    x = rows(b, e).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: principal(t, k), x)
    weight = rows(b + 1, e)[1:]
    (ours,) = torch.autograd.grad((principal(x, k) * weight).sum(), x)
    (theirs,) = torch.autograd.grad((by_svd(x, k) * weight).sum(), x)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("b, e, k", [(4, 8, 3), (8, 4, 4), (3, 8, 32), (1, 8, 1)])
def test_as_many_components_as_the_rank_are_the_identity(b: int, e: int, k: int) -> None:
    x = rows(b, e)
    assert torch.equal(principal(x, k), x)


def test_a_batch_of_lower_rank_is_given_back_with_its_gradient() -> None:
    x = rows(3, 8)[torch.tensor([0, 1, 2] * 4)].requires_grad_()  # rank 2 once centred
    found = principal(x, 5)
    torch.testing.assert_close(found, x)
    weight = rows(12, 8)
    (gradient,) = torch.autograd.grad((found * weight).sum(), x)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient.mean(dim=0), weight.mean(dim=0))


def test_equal_singular_values_have_a_finite_gradient_and_torch_s_own_have_none() -> None:
    """A cross: all four values meet, the first two of them among the components, too."""
    corners = torch.cat([torch.eye(4), -torch.eye(4)])
    weight = rows(8, 4, torch.float32)
    found = {}
    for name, compute in (("ours", principal), ("torch", by_svd)):
        x = corners.clone().requires_grad_()
        (compute(x, 2) * weight).sum().backward()
        assert x.grad is not None
        found[name] = x.grad
    assert not found["torch"].isfinite().all() or found["torch"].abs().max() > 1e3
    assert found["ours"].isfinite().all()
    assert 0 < found["ours"].norm() < 2 * weight.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_collapsed_batch_stays_what_it_is(dtype: torch.dtype) -> None:
    x = rows(1, 6, dtype).expand(9, 6).clone().requires_grad_()
    found = principal(x, 2)
    torch.testing.assert_close(found, x)
    found.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_that_are_not_finite_give_nan_not_an_error(bad: float) -> None:
    x = rows(9, 5, torch.float32)
    x[3, 2] = bad
    assert principal(x, 2).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_full_under_autocast(dtype: torch.dtype) -> None:
    x = rows(20, 8).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = principal(x, 3)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), principal(x.float(), 3), rtol=0, atol=4e-3)


def by_hand(image: Tensor, long: Tensor, short: Tensor, scale: float, loss: LongClipLoss) -> float:
    """Both cross-entropies of torch, on the formula differentiated by torch."""
    targets = torch.arange(len(image))
    total = 0.0
    for x, t, weight in ((image, long, 1.0), (by_svd(image, loss.components), short, loss.weight)):
        for table in (scale * x @ t.T, scale * t @ x.T):
            entropy = F.cross_entropy(table, targets, label_smoothing=loss.label_smoothing)
            total += weight * float(entropy) / 2
    return total


@pytest.mark.parametrize("components, weight, smoothing", [(3, 1.0, 0.1), (5, 0.1, 0.0)])
def test_equal_to_the_formula(components: int, weight: float, smoothing: float) -> None:
    image, long = (x.detach() for x in embeddings(12, 8, dtype=torch.float64))
    short = F.normalize(long + 0.3 * rows(12, 8), dim=1)
    loss = LongClipLoss(components, weight, smoothing)
    terms = loss(image, long, scalar(7.0, torch.float64), short_text=short)
    assert list(terms) == ["contrastive", "short"]
    found = sum(term.item() for term in terms.values())
    assert found == pytest.approx(by_hand(image, long, short, 7.0, loss))


def test_rebuilt_embeddings_are_not_normalised_again() -> None:
    image = embeddings(12, 8)[0].detach()
    assert (principal(image, 3).norm(dim=1) < 0.999).all()


def test_pairs_without_a_short_caption_do_not_count() -> None:
    image, long = embeddings(12, 8, dtype=torch.float64)
    short = F.normalize(long.detach() + 0.3 * rows(12, 8), dim=1)
    there = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1]).bool()
    short = torch.where(there[:, None], short, 0.0).requires_grad_()
    loss = LongClipLoss(3)
    found = loss(image, long, scalar(7.0, torch.float64), short_text=short)["short"]
    coarse = by_svd(image.detach(), 3)[there]
    logits = 7 * coarse @ short.detach()[there].T
    both = [F.cross_entropy(t, torch.arange(9), label_smoothing=0.1) for t in (logits, logits.T)]
    assert found.item() == pytest.approx(float(both[0] + both[1]) / 2)
    found.backward()
    assert short.grad is not None
    assert short.grad[~there].abs().max() == 0
    assert short.grad[there].abs().amin(dim=0).max() > 0


def test_a_batch_without_any_short_caption_costs_nothing_more() -> None:
    image, long = embeddings(12, 8)
    terms = LongClipLoss(3)(image, long, scalar(7.0), short_text=torch.zeros(12, 8))
    assert terms["short"].item() == 0
    torch.stack(list(terms.values())).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_without_short_captions_it_is_clip_s_loss() -> None:
    image, long = embeddings(9)
    terms = LongClipLoss(label_smoothing=0.0)(image, long, scalar(5.0))
    logits = 5 * image @ long.T
    both = [F.cross_entropy(t, torch.arange(9)) for t in (logits, logits.T)]
    assert list(terms) == ["contrastive"]
    assert terms["contrastive"].item() == pytest.approx((both[0] + both[1]).item() / 2)


def test_short_captions_need_not_tell_what_lies_outside_the_components() -> None:
    """Two kinds of images that differ much, each in two shades that differ little: shorts name the kind."""
    kind, shade = torch.eye(4)[0], torch.eye(4)[1]
    image = F.normalize(torch.stack([kind, kind + 0.2 * shade, -kind, -kind + 0.2 * shade]), dim=1)
    coarse = principal(image, 1)
    within = (image[0] - image[1]).norm(), (coarse[0] - coarse[1]).norm()
    assert within[1] < 0.2 * within[0]
    assert (coarse[0] - coarse[2]).norm() > 1.8


@pytest.mark.parametrize("b", [2, 20])
def test_collapsed_embeddings_cost_the_chance_level(b: int) -> None:
    same = F.normalize(torch.ones(b, 8), dim=1)
    loss = LongClipLoss(weight=0.5)
    terms = loss(same, same, scalar(50.0), short_text=same)
    assert sum(term.item() for term in terms.values()) == pytest.approx(loss.chance(b), abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"components": 0},
        {"weight": -1.0},
        {"weight": math.nan},
        {"weight": math.inf},
        {"label_smoothing": 1.0},
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(options)))):
        LongClipLoss(**options)  # type: ignore[arg-type]
