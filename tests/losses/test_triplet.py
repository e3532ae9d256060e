"""TripletCLIP's loss: hand arithmetic, the released code written down again, and pairs without negatives."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.errors import DataError
from patchclip.losses.clip import ClipLoss
from patchclip.losses.triplet import TripletLoss
from tests.losses._batches import embeddings, scalar


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def four(
    b: int = 6, e: int = 16, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, texts, false texts and their images."""
    false_image, false_text = embeddings(b, e, 1, dtype)
    return *embeddings(b, e, 0, dtype), false_text, false_image


def released(image: Tensor, text: Tensor, false_text: Tensor, scale: Tensor) -> Tensor:
    """What TripletCLIP's code computes for one set of negatives, said with sums over rows."""
    true, false = (scale * image @ each.T for each in (text, false_text))
    by_image = torch.cat([true, false], dim=1).logsumexp(dim=1) - true.diagonal()
    by_text = true.logsumexp(dim=0) - true.diagonal()
    return (by_image.mean() + by_text.mean()) / 2


def test_it_asks_for_false_captions() -> None:
    assert TripletLoss.wants == ("negative_text",)


@pytest.mark.parametrize("bias", [None, -3.0])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("negatives", ["none", "zeros", "several zeros"])
def test_without_negatives_it_is_clip_s_loss(negatives: str, shared: bool, bias: float | None) -> None:
    found = []
    for loss in (TripletLoss(shared=shared), ClipLoss()):
        image, text = embeddings(9)
        rows = {"none": None, "zeros": torch.zeros(9, 16), "several zeros": torch.zeros(9, 3, 16)}[negatives]
        extras = {} if rows is None or isinstance(loss, ClipLoss) else {"negative_text": rows}
        scale = scalar(20.0)
        terms = loss(image, text, scale, None if bias is None else scalar(bias), **extras)
        assert list(terms) == ["contrastive"]
        terms["contrastive"].backward()
        found.append([terms["contrastive"].detach(), image.grad, text.grad, scale.grad])
    for ours, clip in zip(*found, strict=True):
        torch.testing.assert_close(ours, clip, atol=1e-6, rtol=1e-6)


def test_two_pairs_by_hand() -> None:
    # images e1, e2; texts e1, e2; false texts e2, e3; s = 1
    e = torch.eye(3)
    image = text = e[:2]
    false = e[1:]
    # rows [1 0 | 0 0] and [0 1 | 1 0]; columns [1 0], [0 1]
    by_image = (math.log(math.e + 3) - 1 + math.log(2 * math.e + 2) - 1) / 2
    by_text = math.log(math.e + 1) - 1
    found = TripletLoss()(image, text, scalar(1.0), None, false)["contrastive"].item()
    assert found == pytest.approx((by_image + by_text) / 2, abs=1e-6)
    # each its own: rows [1 0 | 0] and [0 1 | 0]
    own = TripletLoss(shared=False)(image, text, scalar(1.0), None, false)["contrastive"].item()
    assert own == pytest.approx((math.log(math.e + 2) - 1 + by_text) / 2, abs=1e-6)
    # only the second pair has a negative, e3: rows [1 0 | 0] and [0 1 | 0] when it is shared, too
    half = torch.stack([torch.zeros(3), e[2]])
    found = TripletLoss()(image, text, scalar(1.0), None, half)["contrastive"].item()
    assert found == pytest.approx(own, abs=1e-6)
    found = TripletLoss(shared=False)(image, text, scalar(1.0), None, half)["contrastive"].item()
    by_image = (math.log(math.e + 1) - 1 + math.log(math.e + 2) - 1) / 2
    assert found == pytest.approx((by_image + by_text) / 2, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_equal_to_the_released_code(scale: float) -> None:
    image, text, false_text, false_image = four()
    s = scalar(scale)
    terms = TripletLoss()(image, text, s, None, false_text, false_image)
    assert list(terms) == ["contrastive", "negative"]
    torch.testing.assert_close(terms["contrastive"], released(image, text, false_text, s))
    torch.testing.assert_close(terms["negative"], released(false_image, false_text, text, s))


def test_in_the_symmetric_form_captions_choose_among_the_false_images_too() -> None:
    image, text, false_text, false_image = four()
    s = scalar(8.0)
    terms = TripletLoss(symmetric=True)(image, text, s, None, false_text, false_image)
    for (x, t, t_, x_), term in (
        ((image, text, false_text, false_image), "contrastive"),
        ((false_image, false_text, text, image), "negative"),
    ):
        by_image = F.cross_entropy(s * torch.cat([x @ t.T, x @ t_.T], dim=1), torch.arange(6))
        by_text = F.cross_entropy(s * torch.cat([t @ x.T, t @ x_.T], dim=1), torch.arange(6))
        torch.testing.assert_close(terms[term], (by_image + by_text) / 2)
    plain = TripletLoss()(image, text, s, None, false_text, false_image)
    assert terms["contrastive"] > plain["contrastive"]
    assert TripletLoss(symmetric=True)(image, text, s, None, false_text) == {
        "contrastive": plain["contrastive"]
    }


def test_the_symmetric_form_does_not_care_which_set_is_true() -> None:
    image, text, false_text, false_image = four()
    loss = TripletLoss(symmetric=True)
    one = loss(image, text, scalar(8.0), None, false_text, false_image)
    other = loss(false_image, false_text, scalar(8.0), None, text, image)
    torch.testing.assert_close(one["contrastive"], other["negative"])
    torch.testing.assert_close(one["negative"], other["contrastive"])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_pairs_without_a_negative_are_as_if_the_others_were_alone(shared: bool, symmetric: bool) -> None:
    loss = TripletLoss(shared, symmetric)
    image, text, false_text, false_image = (rows.detach() for rows in four())
    gone = torch.tensor([True, False, False, True, False, False])[:, None]
    false_text, false_image = false_text.masked_fill(gone, 0), false_image.masked_fill(gone, 0)
    found = loss(image, text, scalar(5.0), None, false_text, false_image)
    kept = ~gone[:, 0]
    few = loss(image[kept], text[kept], scalar(5.0), None, false_text[kept], false_image[kept])
    if not shared:  # of pairs that are left out the others would see only the true rows
        torch.testing.assert_close(found["negative"], few["negative"] * 4 / 6)
    own_images, own_texts = false_image[kept], false_text[kept]
    if shared:
        rows = torch.cat([own_images @ own_texts.T, own_images @ text.T], dim=1)
        columns = own_texts @ own_images.T
        columns = torch.cat([columns, own_texts @ image.T], dim=1) if symmetric else columns
        expected = F.cross_entropy(5 * rows, torch.arange(4)) + F.cross_entropy(5 * columns, torch.arange(4))
        torch.testing.assert_close(found["negative"], expected / 2 * 4 / 6)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("symmetric", [True, False])
def test_no_number_on_the_way_is_nan_where_negatives_are_absent(symmetric: bool) -> None:
    image, text, false_text, false_image = four()
    there = (torch.arange(6) > 2)[:, None]
    with torch.autograd.detect_anomaly():
        loss = TripletLoss(symmetric=symmetric)
        total(loss(image, text, scalar(5.0), None, false_text * there, false_image * there)).backward()


def test_an_image_without_a_text_and_a_text_without_an_image_are_no_pair() -> None:
    image, text, false_text, false_image = (rows.detach() for rows in four(4))
    false_text[0], false_image[1] = 0, 0
    both = [rows.clone() for rows in (false_text, false_image)]
    both[0][:2], both[1][:2] = 0, 0
    found = TripletLoss()(image, text, scalar(5.0), None, false_text, false_image)["negative"]
    torch.testing.assert_close(found, TripletLoss()(image, text, scalar(5.0), None, *both)["negative"])


@pytest.mark.parametrize("shared", [True, False])
def test_several_negatives_are_further_columns(shared: bool) -> None:
    image, text, one, other = (rows.detach() for rows in four())
    both = torch.stack([one, other], dim=1)
    found = TripletLoss(shared)(image, text, scalar(5.0), None, both)["contrastive"]
    true = 5 * image @ text.T
    if shared:
        further = [5 * image @ each.T for each in (one, other)]
    else:
        further = [5 * (image * each).sum(dim=1, keepdim=True) for each in (one, other)]
    by_image = F.cross_entropy(torch.cat([true, *further], dim=1), torch.arange(6))
    torch.testing.assert_close(found, (by_image + F.cross_entropy(true.T, torch.arange(6))) / 2)
    padded = torch.stack([one, torch.zeros_like(one)], dim=1)
    torch.testing.assert_close(
        TripletLoss(shared)(image, text, scalar(5.0), None, padded),
        TripletLoss(shared)(image, text, scalar(5.0), None, one),
    )


def test_several_images_of_false_captions_choose_among_all_captions() -> None:
    image, text = (rows.detach() for rows in embeddings(3))
    false_text, false_image = (rows.detach().view(3, 2, 16) for rows in embeddings(6, seed=2))
    flat = false_image.flatten(0, 1), false_text.flatten(0, 1)
    found = TripletLoss()(image, text, scalar(5.0), None, false_text, false_image)["negative"]
    rows = 5 * torch.cat([flat[0] @ flat[1].T, flat[0] @ text.T], dim=1)
    columns = 5 * flat[1] @ flat[0].T
    expected = F.cross_entropy(rows, torch.arange(6)) + F.cross_entropy(columns, torch.arange(6))
    torch.testing.assert_close(found, expected / 2)
    own = TripletLoss(shared=False)(image, text, scalar(5.0), None, false_text, false_image)["negative"]
    each = 5 * (flat[0] * text.repeat_interleave(2, dim=0)).sum(dim=1, keepdim=True)
    rows = torch.cat([rows[:, :6], each], dim=1)
    expected = F.cross_entropy(rows, torch.arange(6)) + F.cross_entropy(columns, torch.arange(6))
    torch.testing.assert_close(own, expected / 2)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("absent", [0, 1, 3])
def test_gradients_are_those_of_finite_differences(shared: bool, symmetric: bool, absent: int) -> None:
    image, text, false_text, false_image = four(3, 5, torch.float64)
    there = (torch.arange(3) >= absent)[:, None]
    loss = TripletLoss(shared, symmetric)

    def value(*rows: Tensor) -> Tensor:
        x, t, t_, x_, scale = rows
        return total(loss(x, t, scale, None, t_ * there, x_ * there))

    inputs = (image, text, false_text, false_image, scalar(4.0, torch.float64))
    assert torch.autograd.gradcheck(value, inputs)


def test_false_captions_are_pushed_away_from_their_image() -> None:
    image, text, false_text, _ = four()
    before = (image * false_text).sum(dim=1).detach()
    TripletLoss(shared=False)(image, text, scalar(10.0), None, false_text)["contrastive"].backward()
    assert false_text.grad is not None
    after = (image * (false_text - 0.1 * false_text.grad)).sum(dim=1)
    assert (after < before).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shared", [True, False])
def test_half_precision_is_near_full_at_the_largest_scale(shared: bool, dtype: torch.dtype) -> None:
    rows = four(12, dtype=dtype)
    x, t, t_, x_ = rows
    loss = TripletLoss(shared, symmetric=True)
    found = total(loss(x, t, scalar(100.0, dtype), None, t_, x_))
    exact = [each.detach().double() for each in (x, t)], [each.detach().double() for each in (t_, x_)]
    expected = total(loss(*exact[0], scalar(100.0, torch.float64), None, *exact[1]))
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    found.backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in rows)


@pytest.mark.parametrize(
    "extras, message",
    [
        (
            {"negative_text": torch.ones(3, 16)},
            r"negative_text must be \[4,16\] or \[4,m,16\].* got \[3, 16\]",
        ),
        ({"negative_text": torch.ones(4, 8)}, r"got \[4, 8\]"),
        ({"negative_text": torch.ones(4, 0, 16)}, r"with m above 0, got \[4, 0, 16\]"),
        ({"negative_text": torch.ones(16)}, r"got \[16\]"),
        ({"negative_image": torch.ones(4, 16)}, r"negative_image \[4, 1, 16\] needs a negative_text.* None"),
        (
            {"negative_image": torch.ones(4, 16), "negative_text": torch.ones(4, 2, 16)},
            r"got \[4, 2, 16\]",
        ),
    ],
)
def test_negatives_that_fit_no_pairs_are_refused(extras: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TripletLoss()(*embeddings(4), scalar(5.0), **extras)


def swap_accuracy(loss: Any, seed: int) -> float:
    """Toy: which attribute belongs to which of two objects is a small part of the features of a scene."""
    draw = torch.Generator().manual_seed(seed)
    words, bound = torch.randn(2, 8, 24, generator=draw), 0.3 * torch.randn(64, 24, generator=draw)
    objects, kinds = torch.rand(2, 600, 8, generator=draw).argsort(dim=2)[..., :2]

    def features(kinds: Tensor) -> Tensor:
        bag = (words[0][objects] + words[1][kinds]).sum(dim=1)
        return torch.cat([bag, bound[8 * objects + kinds].sum(dim=1)], dim=1)

    true, false = features(kinds), features(kinds.flip(1))
    sides = [true + 0.3 * torch.randn(true.shape, generator=draw), true, false]
    start = torch.randn(3, 16, 24, generator=draw) / 7  # the bag is aligned, the rest is not
    maps = [torch.cat([start[0], start[i]], dim=1).requires_grad_() for i in (1, 2)]
    optimizer = torch.optim.Adam(maps, lr=0.01)
    for _ in range(60):
        batch = torch.randint(300, (8,), generator=draw)
        rows = [F.normalize(side[batch] @ maps[i].T, dim=1) for side, i in zip(sides, (0, 1, 1), strict=True)]
        optimizer.zero_grad()
        total(loss(*rows[:2], torch.tensor(30.0), None, negative_text=rows[2])).backward()
        optimizer.step()
    x, t, t_ = (F.normalize(side[300:] @ maps[i].T, dim=1) for side, i in zip(sides, (0, 1, 1), strict=True))
    return float(((x * t).sum(dim=1) > (x * t_).sum(dim=1)).double().mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_swapped_attributes_are_told_apart_sooner_than_by_clip_s_loss(seed: int) -> None:
    clip, triplet = (swap_accuracy(loss, seed) for loss in (ClipLoss(), TripletLoss()))
    assert clip < 0.7
    assert triplet > max(0.75, clip + 0.1)
