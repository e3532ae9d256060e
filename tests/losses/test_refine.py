"""CLIP-Refine against its released code and its closed forms."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.losses.clip import ClipLoss
from patchclip.losses.refine import RefineLoss, distilled, random_alignment
from tests.losses._batches import embeddings, scalar


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def teacher(image: Tensor, text: Tensor, scale: float) -> dict[str, Any]:
    known = torch.tensor(scale, dtype=image.dtype)
    return {"teacher_image": image.detach(), "teacher_text": text.detach(), "teacher_scale": known}


def test_with_true_pairs_alone_the_distillation_is_clips_loss() -> None:
    image, text = embeddings(9)
    terms = RefineLoss(alpha=1.0)(image, text, scalar(11.0), **teacher(text, image, 3.0))
    torch.testing.assert_close(terms["distillation"], ClipLoss()(image, text, scalar(11.0))["contrastive"])


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    image, text = embeddings(9)
    terms = RefineLoss(alpha=0.0)(image, text, scalar(11.0), **teacher(image, text, 11.0))
    assert terms["distillation"].item() == pytest.approx(0, abs=1e-6)
    for gradient in torch.autograd.grad(terms["distillation"], (image, text)):
        assert gradient.abs().max() < 1e-6


def test_the_distillation_is_a_divergence_from_mixed_targets() -> None:
    """Against torch's kl_div, as the released code has it, but for the scales."""
    image, text = embeddings(7, dtype=torch.float64)
    other, known = embeddings(7, seed=3, dtype=torch.float64)
    logits, taught = 11.0 * image @ text.T, 6.0 * other @ known.T
    sides = []
    for student, soft in ((logits, taught), (logits.T, taught.T)):
        target = 0.3 * torch.eye(7) + 0.7 * soft.softmax(dim=1)
        sides.append(F.kl_div(student.log_softmax(dim=1), target, reduction="batchmean"))
    loss = RefineLoss(alpha=0.3, distil=2.0)
    terms = loss(image, text, scalar(11.0, torch.float64), **teacher(other, known, 6.0))
    torch.testing.assert_close(terms["distillation"], 2.0 * (sides[0] + sides[1]) / 2)


def test_random_alignment_is_an_alignment_and_noise_that_both_share() -> None:
    """e R = |x - t|^2 / 2 + 2 |(x + t) / 2 - z|^2, so what parts x from t is no matter of z."""
    image, text = embeddings(6, 16, dtype=torch.float64)
    points = torch.randn(6, 16, generator=seeded(5), dtype=torch.float64)
    apart, middle = (image - text).square().sum(dim=1) / 2, (image + text) / 2
    expected = (apart + 2 * (middle - points).square().sum(dim=1)).mean() / 16
    found = random_alignment(image, text, seeded(5))
    torch.testing.assert_close(found, expected)
    x, t = torch.autograd.grad(found, (image, text))
    torch.testing.assert_close(x - t, 2 * (image - text).detach() / (6 * 16))


def test_in_the_mean_it_draws_to_the_origin() -> None:
    """Its gradient is 2 (x - z) / (b e): on unit-length embeddings the mean would have no direction left."""
    image, text = embeddings(6, 16, dtype=torch.float64)
    points = torch.randn(6, 16, generator=seeded(5), dtype=torch.float64)
    found = torch.autograd.grad(random_alignment(image, text, seeded(5)), image)[0]
    torch.testing.assert_close(found, 2 * (image.detach() - points) / (6 * 16))


def test_released_code_distils_plain_products() -> None:
    """normalise=False against its formulas; the same embeddings by cosines give other numbers."""
    image, text = (4 * x.detach() for x in embeddings(7, dtype=torch.float64))
    other, known = (3 * x.detach() for x in embeddings(7, seed=3, dtype=torch.float64))
    points = torch.randn(7, 16, generator=seeded(5), dtype=torch.float64)
    sides = []
    for student, soft in ((image @ text.T, other @ known.T), (text @ image.T, known @ other.T)):
        target = 0.5 * torch.eye(7) + 0.5 * soft.softmax(dim=1)
        sides.append(F.kl_div(student.log_softmax(dim=1), target, reduction="batchmean"))
    given = teacher(other, known, 60.0)
    scale = scalar(100.0, torch.float64)
    found = RefineLoss(normalise=False)(image, text, scale, generator=seeded(5), **given)
    torch.testing.assert_close(found["distillation"], (sides[0] + sides[1]) / 2)
    torch.testing.assert_close(
        found["random_alignment"], F.mse_loss(image, points) + F.mse_loss(text, points)
    )
    by_cosine = RefineLoss()(image, text, scale, generator=seeded(5), **given)
    assert abs(found["distillation"].item() - by_cosine["distillation"].item()) > 0.1


def test_cosines_do_not_see_lengths() -> None:
    image, text = (x.detach() for x in embeddings(7))
    given = teacher(text, image, 9.0)
    longer = {**given, "teacher_image": 5 * given["teacher_image"]}
    found = RefineLoss()(3 * image, 0.5 * text, scalar(20.0), **longer)["distillation"]
    torch.testing.assert_close(found, RefineLoss()(image, text, scalar(20.0), **given)["distillation"])


def test_the_scale_is_trained_unless_it_is_the_released_code() -> None:
    image, text = embeddings(7)
    for normalise in (True, False):
        scale = scalar(9.0)
        terms = RefineLoss(normalise=normalise)(image, text, scale, **teacher(text, image, 4.0))
        terms["distillation"].backward(retain_graph=True)
        assert scale.grad is not None
        assert bool(scale.grad != 0) is normalise


def test_random_alignment_closes_a_gap_without_a_collapse() -> None:
    """Free embeddings under SGD: pairs close in by 0.9 a step whatever is drawn, which keeps them spread."""
    generator = seeded()
    image, text = (0.2 * torch.randn(64, 16, generator=generator) for _ in range(2))
    image, text = (image + 1).requires_grad_(), (text - 1).requires_grad_()
    before = (image - text).detach()
    optimizer = torch.optim.SGD([image, text], lr=0.1 * 64 * 16 / 2)
    for _ in range(60):
        optimizer.zero_grad()
        random_alignment(image, text, generator).backward()
        optimizer.step()
    torch.testing.assert_close((image - text).detach(), 0.9**60 * before, atol=1e-5, rtol=1e-3)
    cosines = F.normalize(image.detach(), dim=1) @ F.normalize(image.detach(), dim=1).T
    assert cosines[~torch.eye(64, dtype=torch.bool)].mean().abs() < 0.1


def test_without_a_teacher_it_says_so() -> None:
    image, text = embeddings(3)
    given = teacher(image, text, 5.0)
    for name in given:
        rest = {key: value for key, value in given.items() if key != name}
        with pytest.raises(ConfigError, match=f"no {name}: pass the embeddings"):
            RefineLoss()(image, text, scalar(5.0), **rest)


def test_the_teacher_takes_no_gradient() -> None:
    image, text = embeddings(4)
    other, known = embeddings(4, seed=1)
    given = {"teacher_image": other, "teacher_text": known, "teacher_scale": scalar(4.0)}
    RefineLoss()(image, text, scalar(5.0), **given)["distillation"].backward()
    assert other.grad is None
    assert given["teacher_scale"].grad is None


def test_certain_targets_are_finite() -> None:
    own = torch.eye(5, dtype=torch.float32)
    found = distilled(-1e4 * own.requires_grad_(), 1e4 * own.detach(), 0.5)
    assert found.isfinite()
    assert found.item() > 1e3


@pytest.mark.parametrize(
    "options",
    [{"alpha": -0.1}, {"alpha": 1.1}, {"alpha": math.nan}, {"align": -1.0}, {"distil": -1.0}],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}="):
        RefineLoss(**options)


def test_a_loss_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"align=0\.0 and distil=0\.0 .* one above"):
        RefineLoss(align=0.0, distil=0.0)
