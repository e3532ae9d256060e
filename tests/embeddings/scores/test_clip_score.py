"""CLIPScore by hand, and against torchmetrics' scale."""

import pytest
import torch

from patchclip.embeddings.scores.clip_score import ClipScore
from patchclip.errors import ConfigError
from tests.embeddings._rows import rows

IMAGE = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
TEXT = torch.tensor([[4.0, 3.0], [-1.0, 0.0], [0.5, 0.0], [1.0, 1.0]])


def test_hand_arithmetic() -> None:
    torch.testing.assert_close(ClipScore()(IMAGE, TEXT), 2.5 * torch.tensor([0.96, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(ClipScore(weight=100)(IMAGE, TEXT)[0].item(), 96.0)


def test_lengths_do_not_count_and_sides_may_change_places() -> None:
    x, y = rows(9), rows(9, seed=1)
    torch.testing.assert_close(ClipScore()(x, y), ClipScore()(7 * y, x / 3))


def test_below_zero_there_is_nothing_to_climb() -> None:
    image = IMAGE[1:2].clone().requires_grad_()
    ClipScore()(image, TEXT[1:2]).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().max() == 0


def test_the_weight_is_checked() -> None:
    with pytest.raises(ConfigError, match="weight=0 must be above 0"):
        ClipScore(weight=0)
