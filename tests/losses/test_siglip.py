"""The sigmoid loss against open_clip's and hand arithmetic."""

import math

import open_clip.loss
import pytest
import torch
import torch.nn.functional as F

from patchclip.losses.siglip import SigLIPLoss
from tests.losses._batches import embeddings, scalar


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [None, -10.0, 2.5])
@pytest.mark.parametrize("b, scale", [(1, 10.0), (2, 1.0), (33, 10.0), (64, 30.0)])
def test_equal_to_open_clip_with_its_gradients(
    b: int, scale: float, bias: float | None, dtype: torch.dtype
) -> None:
    found, expected = [], []
    for compute, results in ((SigLIPLoss(), found), (open_clip.loss.SigLipLoss(), expected)):
        inputs = [*embeddings(b, dtype=dtype), scalar(scale, dtype)]
        rest = [] if bias is None else [scalar(bias, dtype)]
        result = compute(*inputs, *(rest or [None]))
        loss = result["contrastive"] if isinstance(result, dict) else result
        loss.backward()
        results.extend([loss.detach(), *(x.grad for x in [*inputs, *rest])])
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_two_pairs_by_hand() -> None:
    loss = SigLIPLoss()(torch.eye(2), torch.eye(2), scalar(3.0), scalar(-1.0))
    assert list(loss) == ["contrastive"]
    # logits: 2 on the diagonal, -1 elsewhere; two pairs that match and two that do not, over b = 2
    assert loss["contrastive"].item() == pytest.approx(softplus(-2) + softplus(-1))


def test_without_bias_the_bias_is_zero() -> None:
    image, text = embeddings(7)
    without = SigLIPLoss()(image, text, scalar(5.0))["contrastive"]
    torch.testing.assert_close(without, SigLIPLoss()(image, text, scalar(5.0), scalar(0.0))["contrastive"])


def test_one_pair_is_one_question() -> None:
    one = torch.tensor([[0.6, 0.8]])
    assert SigLIPLoss()(one, one, scalar(4.0), scalar(-1.0))["contrastive"].item() == pytest.approx(
        softplus(-3)
    )


@pytest.mark.parametrize("b", [1, 5, 100])
def test_the_start_of_the_paper_costs_little_for_pairs_that_do_not_match(b: int) -> None:
    scale, bias = SigLIPLoss.initial_logits
    assert (scale, bias) == (10.0, -10.0)
    far = torch.eye(2 * b)
    loss = SigLIPLoss()(far[:b], far[b:], scalar(scale), scalar(bias))["contrastive"].item()
    assert loss == pytest.approx(softplus(10) + (b - 1) * softplus(-10), rel=1e-5)


@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)]
)
def test_pairs_told_apart_with_certainty_cost_nothing(dtype: torch.dtype, tolerance: float) -> None:
    """Many large logits must not cancel each other: 700 of them overflow float16 when they are summed."""
    one = torch.eye(700, dtype=dtype)
    loss = SigLIPLoss()(one, one, scalar(100.0, dtype), scalar(-50.0, dtype))["contrastive"]
    assert 0 <= loss.item() < tolerance


def test_a_small_loss_keeps_its_digits() -> None:
    image = torch.eye(64, dtype=torch.float64)
    expected = open_clip.loss.SigLipLoss()(image, image, scalar(90.0), scalar(-80.0)).item()
    assert expected == pytest.approx(softplus(-10), rel=1e-6)
    single = image.float()
    found = SigLIPLoss()(single, single, scalar(90.0), scalar(-80.0))["contrastive"].item()
    assert found == pytest.approx(expected, rel=1e-3)


def test_bias_and_scale_learn() -> None:
    image, text = embeddings(8)
    scale, bias = scalar(10.0), scalar(-10.0)
    SigLIPLoss()(image, text, scale, bias)["contrastive"].backward()
    logits = 10 * image @ text.T - 10
    error = F.sigmoid(logits) - torch.eye(8)
    assert scale.grad is not None
    assert bias.grad is not None
    assert bias.grad.item() == pytest.approx(error.sum().item() / 8, abs=1e-5)
    assert scale.grad.item() == pytest.approx((error * (image @ text.T)).sum().item() / 8, abs=1e-5)
