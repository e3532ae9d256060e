"""Geodesic mixup against its released code, written out pair by pair."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.losses.clip import ClipLoss
from patchclip.losses.m2_mix import M2MixLoss, against_mixed, drawn, to_both, with_partner
from tests.losses._batches import embeddings, scalar


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def arc(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    angle = math.acos(float((a * b).sum()))
    first, second = math.sin(float(share) * angle), math.sin((1 - float(share)) * angle)
    return (first * a + second * b) / math.sin(angle)


def test_negatives_lie_between_the_image_and_the_text_of_another_pair() -> None:
    """Row by row, with the original pair on the diagonal; both sides summed, as in the released code."""
    image, text = (x.detach() for x in embeddings(7, dtype=torch.float64))
    share, by_hand = torch.tensor(0.3, dtype=torch.float64), 0.0
    for rows in (image, text):
        for i in range(7):
            logits = [float(rows[i] @ arc(image[j], text[j], share)) / 0.07 for j in range(7)]
            logits[i] = float(image[i] @ text[i]) / 0.07
            by_hand += (math.log(sum(map(math.exp, logits))) - logits[i]) / 7
    found = against_mixed(image, text, torch.tensor(1 / 0.07), share)
    assert found.item() == pytest.approx(by_hand)


def test_the_terms_add_up_from_the_draws_of_the_generator() -> None:
    image, text = embeddings(6)
    terms = M2MixLoss(weight=0.05)(image, text, scalar(50.0), generator=seeded(4))
    share = drawn(0.5, image, seeded(4))
    expected = 0.05 * against_mixed(image, text, torch.tensor(1 / 0.07), share)
    torch.testing.assert_close(terms["m2_mix"], expected)
    torch.testing.assert_close(terms["contrastive"], ClipLoss()(image, text, scalar(50.0))["contrastive"])
    own = M2MixLoss(weight=0.05, temperature=None)(image, text, scalar(1 / 0.07), generator=seeded(4))
    torch.testing.assert_close(own["m2_mix"], terms["m2_mix"])


def test_weight_0_is_clips_loss() -> None:
    image, text = embeddings(6)
    terms = M2MixLoss(weight=0.0)(image, text, scalar(50.0))
    assert terms.keys() == {"contrastive"}


def test_mixed_negatives_are_harder_than_plain_ones() -> None:
    """The law of the paper: with modalities apart, points between them are nearer to an image than texts."""
    image, text = (x.detach() for x in embeddings(40, 32))
    shift = 2 * F.one_hot(torch.tensor(0), 32)
    image, text = F.normalize(image + shift, dim=1), F.normalize(text - shift, dim=1)
    share = torch.tensor(0.5)
    off = ~torch.eye(40, dtype=torch.bool)
    plain = (image @ text.T)[off].mean()
    scale = torch.tensor(1.0)
    assert against_mixed(image, text, scale, share) > 2 * ClipLoss()(image, text, scale)["contrastive"]
    assert plain < 0


@pytest.mark.parametrize("alpha", [0.01, 0.5, 1.0, 5.0])
def test_draws_follow_the_beta_distribution(alpha: float) -> None:
    generator = seeded()
    draws = torch.stack([drawn(alpha, torch.zeros(1), generator) for _ in range(1500)]).double()
    assert ((draws >= 0) & (draws <= 1)).all()
    assert draws.mean().item() == pytest.approx(0.5, abs=0.05)
    assert draws.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)


def test_what_is_drawn_is_the_generators() -> None:
    image, text = embeddings(5)
    first, again, other = (
        M2MixLoss()(image, text, scalar(5.0), generator=seeded(seed))["m2_mix"].item() for seed in (1, 1, 2)
    )
    assert first == again != other
    torch.manual_seed(0)
    free = M2MixLoss()(image, text, scalar(5.0))["m2_mix"].item()
    torch.manual_seed(0)
    assert M2MixLoss()(image, text, scalar(5.0))["m2_mix"].item() == free


def test_the_middle_pair_of_an_odd_batch_is_finite() -> None:
    """It is its own partner: the released code divides 0 by 0 there, and every gradient is NaN."""
    image, text = torch.eye(5).requires_grad_(), embeddings(5, 5)[1]
    angle = (image * image.flip(0)).sum(dim=1).arccos().detach()
    released = (0.3 * angle).sin() / angle.sin()
    assert released.isnan().tolist() == [False, False, True, False, False]
    torch.testing.assert_close(with_partner(image, torch.tensor(0.3))[2], image[2])
    loss = M2MixLoss(unimodal=0.05, joint=0.1)
    torch.stack(list(loss(image, text, scalar(20.0), generator=seeded()).values())).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_unimodal_mixes_belong_to_both_pairs() -> None:
    image, text = (x.detach() for x in embeddings(4, dtype=torch.float64))
    share = torch.tensor(0.2, dtype=torch.float64)
    logits = 10.0 * with_partner(image, share) @ text.T
    targets = 0.2 * torch.eye(4, dtype=torch.float64) + 0.8 * torch.eye(4, dtype=torch.float64).flip(0)
    expected = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    torch.testing.assert_close(to_both(logits, share), expected)
    generator = seeded(7)
    terms = M2MixLoss(0.0, unimodal=0.05)(image, text, torch.tensor(10.0), generator=generator)
    first, second = (drawn(0.5, image, generator) for generator in [seeded(7)] for _ in range(2))
    by_image = to_both(10.0 * with_partner(image, first) @ text.T, first)
    by_text = to_both(10.0 * image @ with_partner(text, second).T, second)
    torch.testing.assert_close(terms["unimodal_mix"], 0.05 * (by_image + by_text))


def test_joint_mixes_count_half_of_what_the_released_targets_do() -> None:
    """There both pairs have a target of 1, so rows sum to 2."""
    image, text = (x.detach() for x in embeddings(4, dtype=torch.float64))
    share = drawn(0.5, image, seeded(3))
    logits = 10.0 * with_partner(image, share) @ with_partner(text, share).T
    own = torch.eye(4, dtype=torch.float64)
    released = (F.cross_entropy(logits, own + own.flip(0)) + F.cross_entropy(logits.T, own + own.flip(0))) / 2
    found = M2MixLoss(0.0, joint=0.1)(image, text, torch.tensor(10.0), generator=seeded(3))["joint_mix"]
    torch.testing.assert_close(found, 0.1 * released / 2)


@pytest.mark.parametrize(
    "options",
    [
        *({name: -1.0} for name in ("weight", "unimodal", "joint", "alpha", "other_alpha")),
        *({"temperature": 0.0}, {"alpha": 0.0}, {"alpha": math.inf}, {"weight": math.nan}),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}="):
        M2MixLoss(**options)
