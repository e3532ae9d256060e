"""InfoNCE against open_clip's, torch's label smoothing and hand arithmetic."""

import math

import open_clip.loss
import pytest
import torch
import torch.nn.functional as F

from patchclip.errors import ConfigError
from patchclip.losses.clip import ClipLoss
from tests.losses._batches import embeddings, scalar


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [None, -3.0])
@pytest.mark.parametrize("b, scale", [(1, 14.3), (2, 1.0), (33, 14.3), (64, 100.0)])
def test_equal_to_open_clip_with_its_gradients(
    b: int, scale: float, bias: float | None, dtype: torch.dtype
) -> None:
    found, expected = [], []
    for compute, results in ((ClipLoss(), found), (open_clip.loss.ClipLoss(), expected)):
        inputs = [*embeddings(b, dtype=dtype), scalar(scale, dtype)]
        if bias is not None:
            inputs.append(scalar(bias, dtype))
        result = compute(*inputs)
        loss = result["contrastive"] if isinstance(result, dict) else result
        loss.backward()
        results.extend([loss.detach(), *(x.grad for x in inputs)])
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_two_pairs_by_hand() -> None:
    image, text = torch.eye(2), torch.eye(2)
    loss = ClipLoss()(image, text, scalar(1.0))
    assert list(loss) == ["contrastive"]
    assert loss["contrastive"].item() == pytest.approx(math.log(1 + math.exp(-1)))  # -log(e / (e + 1))
    swapped = ClipLoss()(image, text.flip(0), scalar(1.0))["contrastive"].item()
    assert swapped == pytest.approx(math.log(1 + math.e))


def test_both_directions_count_half() -> None:
    image = torch.tensor([[1.0, 0], [1, 0]])
    text = torch.tensor([[1.0, 0], [0, 1]])
    # logits [[2, 0], [2, 0]]: rows -> (log(1 + e^-2) + log(1 + e^2)) / 2, columns -> log 2
    by_image = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    found = ClipLoss()(image, text, scalar(2.0))["contrastive"].item()
    assert found == pytest.approx((by_image + math.log(2)) / 2)


def test_one_pair_has_nothing_to_choose() -> None:
    assert ClipLoss()(*embeddings(1), scalar(50.0))["contrastive"].item() == 0


@pytest.mark.parametrize("b", [2, 10, 256])
def test_collapsed_embeddings_cost_the_chance_level(b: int) -> None:
    same = F.normalize(torch.ones(b, 8), dim=-1)
    loss = ClipLoss()
    assert loss(same, same, scalar(100.0))["contrastive"].item() == pytest.approx(math.log(b), abs=1e-5)
    assert loss.chance(b) == pytest.approx(math.log(b))


def test_a_bias_changes_neither_loss_nor_gradients() -> None:
    results = []
    for bias in (None, scalar(-10.0)):
        image, text = embeddings(9)
        loss = ClipLoss()(image, text, scalar(20.0), bias)["contrastive"]
        loss.backward()
        results.append((loss, image.grad, text.grad))
    assert bias is not None
    assert abs(float(bias.grad)) < 1e-6
    for without, with_bias in zip(*results, strict=True):
        torch.testing.assert_close(without, with_bias, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_mixes_in_the_uniform_target(smoothing: float) -> None:
    image, text = embeddings(12)
    logits = (7.0 * image @ text.T).double()
    by_hand = torch.zeros((), dtype=torch.float64)
    for table in (logits, logits.T):
        log_p = table - table.exp().sum(dim=1, keepdim=True).log()
        target = (1 - smoothing) * torch.eye(12) + smoothing / 12
        by_hand = by_hand - (target * log_p).sum(dim=1).mean() / 2
    found = ClipLoss(smoothing)(image, text, scalar(7.0))["contrastive"]
    assert found.item() == pytest.approx(by_hand.item(), abs=1e-5)
    reference = F.cross_entropy(logits, torch.arange(12), label_smoothing=smoothing)
    reference = reference + F.cross_entropy(logits.T, torch.arange(12), label_smoothing=smoothing)
    assert found.item() == pytest.approx(reference.item() / 2, abs=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0, float("nan")])
def test_other_smoothing_is_refused(smoothing: float) -> None:
    with pytest.raises(ConfigError, match=f"label_smoothing={smoothing}"):
        ClipLoss(smoothing)


def test_a_temperature_that_learns_goes_up_for_pairs_that_match() -> None:
    image = torch.eye(6)
    scale = scalar(10.0)
    ClipLoss()(image, image, scale)["contrastive"].backward()
    assert scale.grad is not None
    assert scale.grad < 0
