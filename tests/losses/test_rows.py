"""The rows of a contrastive loss against torch's cross-entropy, and where torch's is not enough."""

import math

import pytest
import torch
import torch.nn.functional as F

from patchclip.losses._rows import both_ways, cross_entropy, table
from patchclip.losses.clip import ClipLoss
from tests.losses._batches import embeddings, scalar


def logits(n: int, m: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    made = 3 * torch.randn(n, m, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return made.to(dtype).requires_grad_()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["diagonal", "columns", "shares"])
def test_it_is_torchs_cross_entropy(kind: str, smoothing: float) -> None:
    rows = logits(6, 6)
    columns = torch.tensor([3, 3, 0, 5, 1, 2])
    shares = torch.rand(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shares = shares / shares.sum(dim=1, keepdim=True)
    given = {"diagonal": None, "columns": columns, "shares": shares}[kind]
    theirs = F.cross_entropy(rows, torch.arange(6) if given is None else given, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(rows, given, smoothing=smoothing), theirs)


def test_a_table_is_the_clip_loss() -> None:
    image, text = embeddings(9)
    expected = ClipLoss()(image, text, scalar(12.0))["contrastive"]
    for bias in (None, scalar(-10.0)):
        torch.testing.assert_close(both_ways(table(image, text, scalar(12.0), bias)), expected)


def test_a_table_need_not_be_square() -> None:
    image, text = embeddings(5)
    found = table(image[:2], text, scalar(3.0), scalar(-1.0))
    torch.testing.assert_close(found, 3 * image[:2] @ text.T - 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["columns", "shares"])
def test_columns_at_minus_infinity_are_as_if_they_were_not_there(kind: str, smoothing: float) -> None:
    rows = logits(4, 5)
    padded = torch.cat([rows, torch.full((4, 3), -math.inf, dtype=torch.float64)], dim=1)
    columns = torch.tensor([0, 4, 2, 2])
    shares = torch.full((4, 5), 0.2, dtype=torch.float64)
    short, long = (columns, columns) if kind == "columns" else (shares, F.pad(shares, (0, 3)))
    expected = cross_entropy(rows, short, smoothing=smoothing)
    found = cross_entropy(padded, long, smoothing=smoothing)
    torch.testing.assert_close(found, expected)
    gradient = torch.autograd.grad(found, rows)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, rows)[0])
    assert gradient.isfinite().all()


def test_weights_choose_rows() -> None:
    rows = logits(5, 5)
    kept = torch.tensor([0, 3])
    weights = torch.zeros(5).index_fill(0, kept, 7.0)  # float32 beside float64 logits
    expected = F.cross_entropy(rows[kept], kept)
    torch.testing.assert_close(cross_entropy(rows, weights=weights), expected)
    uneven = cross_entropy(rows, weights=torch.tensor([1.0, 0, 0, 3.0, 0]))
    each = F.cross_entropy(rows, torch.arange(5), reduction="none")
    torch.testing.assert_close(uneven, (each[0] + 3 * each[3]) / 4)


def test_no_weight_at_all_costs_nothing() -> None:
    rows = logits(3, 3)
    found = cross_entropy(rows, weights=torch.zeros(3))
    assert found.item() == 0
    assert torch.autograd.grad(found, rows)[0].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    image, text = embeddings(16, dtype=dtype)
    found = table(image, text, scalar(100.0, dtype))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, 100 * image.float() @ text.float().T)
    large = torch.full((2, 2), 60000.0, dtype=torch.float16)
    assert cross_entropy(large).item() == pytest.approx(math.log(2))


def test_gradients_are_those_of_finite_differences() -> None:
    weights = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    shares = torch.full((3, 4), 0.25, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda rows: cross_entropy(rows, shares, weights, 0.1), logits(3, 4))
