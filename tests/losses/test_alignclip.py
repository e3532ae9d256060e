"""AlignCLIP's loss against its released code, written out, and the laws of its separation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.losses.alignclip import AlignCLIPLoss, separation
from patchclip.losses.clip import ClipLoss
from tests.losses._batches import embeddings, scalar


def by_hand(rows: Tensor, pairs: Tensor, captions: Tensor, scale: float) -> float:
    """mean_i -log softmax(s V_i)_i, entry by entry."""
    unit = captions / captions.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(len(rows)):
        v = [float(rows[i] @ rows[j]) * (1 - float(unit[i] @ unit[j])) for j in range(len(rows))]
        v[i] = float(pairs[i])
        total += math.log(sum(math.exp(scale * each) for each in v)) - scale * v[i]
    return total / len(rows)


@pytest.mark.parametrize("separate_text", [False, True])
def test_it_is_the_released_formula(separate_text: bool) -> None:
    image, text = (x.detach() for x in embeddings(8, dtype=torch.float64))
    captions = torch.randn(8, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    loss = AlignCLIPLoss(1.0, 0.5, separate_text, reference="some/model")
    found = loss(image, text, scalar(9.0, torch.float64), reference_text=captions)
    pairs = (image * text).sum(dim=1)
    sides = [by_hand(rows, pairs, captions, 9.0) for rows in ((image, text) if separate_text else (image,))]
    assert found["separation"].item() == pytest.approx(0.5 * sum(sides))


def test_beta_0_is_twice_clips_loss() -> None:
    """The released code sums both directions where CLIP takes their mean."""
    image, text = embeddings(8)
    terms = AlignCLIPLoss(beta=0.0)(image, text, scalar(20.0), scalar(-3.0))
    assert terms.keys() == {"contrastive"}
    torch.testing.assert_close(terms["contrastive"], 2 * ClipLoss()(image, text, scalar(20.0))["contrastive"])


def test_the_same_caption_twice_pushes_nothing_apart() -> None:
    """Each of two images with one caption learns of its text alone, wherever the other image lies."""
    image, text = embeddings(2, dtype=torch.float64)
    captions, scale = torch.ones(2, 3, dtype=torch.float64), torch.tensor(5.0, dtype=torch.float64)
    captions = F.normalize(captions, dim=1)
    moved = torch.stack([image[0], image[1].roll(1)])
    found, again = (
        torch.autograd.grad(separation(rows, text, captions, scale), image, retain_graph=True)[0]
        for rows in (image * 1, moved)
    )
    torch.testing.assert_close(found[0], again[0])
    pull = torch.sigmoid(-5 * (image[0] @ text[0]))  # share of the logit 0 beside that of the pair
    torch.testing.assert_close(found[0], -5 * pull * text[0] / 2)


def test_captions_that_differ_push_images_apart() -> None:
    image = F.normalize(torch.tensor([[1.0, 0.2, 0], [1.0, -0.2, 0]]), dim=1).requires_grad_()
    text = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    for captions, pushed in ((torch.eye(2), True), (torch.ones(2, 2), False)):
        gradient = torch.autograd.grad(separation(image, text, captions, torch.tensor(10.0)), image)[0]
        towards = (gradient[0, 1] < 0).item()  # descent moves the first image up, away from the second
        assert towards is pushed


def test_without_a_reference_captions_are_compared_by_the_texts_as_they_stand() -> None:
    image, text = embeddings(6)
    own = AlignCLIPLoss()(image, text, scalar(10.0))["separation"]
    held = AlignCLIPLoss(reference="x")(image, text, scalar(10.0), reference_text=text.detach())["separation"]
    torch.testing.assert_close(own, held)
    for found in (torch.autograd.grad(each, text, retain_graph=True)[0] for each in (own, held)):
        pairs = torch.autograd.grad(held, text, retain_graph=True)[0]
        torch.testing.assert_close(found, pairs)  # no gradient through the comparison


def test_what_it_wants_follows_its_reference() -> None:
    assert AlignCLIPLoss().wants == ()
    assert AlignCLIPLoss(reference="x").wants == ("reference_text",)
    assert AlignCLIPLoss(beta=0.0, reference="x").wants == ()
    with pytest.raises(ConfigError, match=r"reference='x', but no reference_text was given"):
        AlignCLIPLoss(reference="x")(*embeddings(3), scalar(5.0))


def test_a_reference_need_not_be_of_unit_length_nor_width() -> None:
    image, text = embeddings(5)
    captions = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    loss = AlignCLIPLoss(reference="x")
    found = [
        loss(image, text, scalar(8.0), reference_text=captions * size)["separation"] for size in (1.0, 7.0)
    ]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("alpha, beta", [(-1.0, 1.0), (1.0, -0.5), (0.0, 0.0), (math.nan, 1.0)])
def test_other_weights_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(ConfigError, match=f"alpha={alpha} and beta={beta}"):
        AlignCLIPLoss(alpha, beta)
