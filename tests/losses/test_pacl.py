"""PACL's loss: CLIP's on a table of scores; equal texts are no negatives of each other."""

import math

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.losses.clip import ClipLoss
from patchclip.losses.pacl import PACLLoss
from tests.losses._batches import embeddings, scalar


def table(b: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Scores in [-1, 1]."""
    generator = torch.Generator().manual_seed(b)
    return (2 * torch.rand(b, b, generator=generator, dtype=dtype) - 1).requires_grad_()


def value(scores: Tensor, scale: float = 10.0, **options: object) -> Tensor:
    return PACLLoss()(scores, scalar(scale, scores.dtype), **options)["contrastive"]


@pytest.mark.parametrize("b, scale", [(1, 10.0), (2, 1.0), (33, 100.0)])
def test_of_cosines_it_is_clips_loss(b: int, scale: float) -> None:
    image, text = embeddings(b, dtype=torch.float64)
    expected = ClipLoss()(image, text, scalar(scale, torch.float64))["contrastive"]
    torch.testing.assert_close(value(image @ text.T, scale), expected)


def test_two_pairs_by_hand() -> None:
    scores = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    # scale 2: rows log(1 + e^-2), log(1 + e^-1); columns log(1 + e^-1), log(1 + e^-2)
    by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    assert value(scores, 2.0).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("b", [2, 17])
def test_equal_scores_cost_the_chance_level(b: int) -> None:
    assert value(torch.full((b, b), 0.3)).item() == pytest.approx(math.log(b), abs=1e-5)
    assert PACLLoss().chance(b) == pytest.approx(math.log(b))


def test_pairs_with_the_same_text_are_no_negatives() -> None:
    scores, same = table(4), torch.tensor([7, 3, 7, 9])
    logits = 10.0 * scores.detach()
    by_hand = 0.0
    for rows in (logits, logits.T):
        for i in range(4):
            others = [j for j in range(4) if j == i or same[j] != same[i]]
            by_hand += (rows[i, others].logsumexp(dim=0) - rows[i, i]).item() / 8
    loss = value(scores, same=same)
    assert loss.item() == pytest.approx(by_hand, abs=1e-12)
    loss.backward()
    assert scores.grad is not None
    twins = torch.tensor([[0, 2], [2, 0]])
    assert not scores.grad[twins[:, 0], twins[:, 1]].any()
    assert (scores.grad != 0).sum() == 14


def test_different_numbers_change_nothing_and_equal_ones_only_if_asked() -> None:
    scores, same = table(6), torch.tensor([0, 1, 1, 2, 3, 0])
    plain = value(scores)
    torch.testing.assert_close(value(scores, same=torch.tensor([5, 4, 3, 2, 1, 0])), plain)
    published = PACLLoss(same_text="negative")(scores, scalar(10.0, torch.float64), same=same)["contrastive"]
    torch.testing.assert_close(published, plain)
    assert value(scores, same=same) < plain


def test_a_batch_of_one_text_has_nothing_to_tell_apart() -> None:
    scores = table(5)
    loss = value(scores, same=torch.zeros(5, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_gradients_are_those_of_finite_differences() -> None:
    same = torch.tensor([0, 1, 0, 2])
    scale = scalar(3.0, torch.float64)
    assert torch.autograd.gradcheck(lambda s, t: PACLLoss()(s, t, same)["contrastive"], (table(4), scale))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_equal_texts_is_finite(dtype: torch.dtype) -> None:
    scores = table(8).detach().to(dtype).requires_grad_()
    loss = value(scores, 100.0, same=torch.arange(8) // 2)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_embeddings_in_place_of_scores_name_the_command() -> None:
    image, text = embeddings(4)
    square, _ = embeddings(16)
    for wrong in ((image, text), (image, scalar(1.0)), (square, square)):
        with pytest.raises(ConfigError, match=r"scores \[b, b\] of a patch head.*patchclip align"):
            PACLLoss()(*wrong)


def test_other_words_for_equal_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match="same_text='drop' must be one of ignore, negative"):
        PACLLoss(same_text="drop")
