"""Blocks of pairs: the definition to rounding, without what the definition holds in memory."""

import pytest
import torch
from torch import Tensor

from patchclip.heads._pairwise import pairwise
from patchclip.heads.pacl import PACLHead
from patchclip.losses.pacl import PACLLoss
from tests.heads._naive import naive, pairs


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("block", [1, 60, 400, 1 << 24])
@pytest.mark.parametrize(
    "length, tau", [(20, 1.0), (20, 0.05), (70, 0.1)]
)  # fewer and more patches than numbers
def test_blocks_equal_the_definition(
    length: int, tau: float, block: int, dtype: torch.dtype, tolerance: float
) -> None:
    found: list[Tensor] = []
    expected: list[Tensor] = []
    head = PACLHead(temperature=tau, block=block)
    for score, results in ((head.compatibility, found), (lambda v, t: naive(v, t, tau), expected)):
        patches, texts = pairs(6, length, 6, 48, dtype=dtype)
        scores = score(patches, texts)
        loss = PACLLoss()(scores, torch.tensor(20.0, dtype=dtype))["contrastive"]
        loss.backward()
        results.extend([scores.detach(), loss.detach(), patches.grad, texts.grad])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = pairs(2, 3, 3, 4, dtype=torch.float64)
    head = PACLHead(temperature=0.3, block=4)
    assert torch.autograd.gradcheck(head.compatibility, inputs)


@pytest.mark.parametrize("length", [6, 40])
def test_patches_and_texts_of_zeros(length: int) -> None:
    patches, texts = pairs(3, length, 4, 16)
    with torch.no_grad():
        patches[0] = 0  # an image of nothing
        patches[1, 2] = 0  # a patch of nothing
        patches[2, 1:] = -patches[2, :1] / (length - 1)  # patches that cancel under even weights
        texts[3] = 0
    for tau in (0.1, 1e9):
        scores = PACLHead(temperature=tau).compatibility(patches, texts)
        assert scores.isfinite().all()
        assert scores.abs().max() <= 1 + 1e-6
        assert torch.equal(scores[0], torch.zeros(4))
        assert torch.equal(scores[:, 3], torch.zeros(3))
        patches.grad = texts.grad = None
        scores.sum().backward()
        assert patches.grad is not None
        assert texts.grad is not None
        assert patches.grad.isfinite().all()
        assert texts.grad.isfinite().all()
        assert patches.grad[1].abs().max() > 0


class Held:
    """Bytes that autograd keeps between forward and backward, each tensor's memory once."""

    def __init__(self) -> None:
        self.found: dict[int, int] = {}

    def keep(self, value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        self.found[storage.data_ptr()] = storage.nbytes()
        return value

    @property
    def bytes(self) -> int:
        return sum(self.found.values())


def held(size: int, length: int = 64, block: int = 1024) -> tuple[int, int]:
    """Bytes held by our form and by the definition for `size` images and texts."""
    found = []
    for score in (PACLHead(block=block).compatibility, lambda v, t: naive(v, t, 0.1)):
        patches, texts = pairs(size, length, size, 8)
        count = Held()
        with torch.autograd.graph.saved_tensors_hooks(count.keep, lambda value: value):
            scores = score(patches, texts)
        found.append(count.bytes)
        scores.sum().backward()
        assert patches.grad is not None
    return found[0], found[1]


def test_what_is_held_grows_with_the_images_not_with_the_pairs() -> None:
    (ours_8, naive_8), (ours_64, naive_64) = held(8), held(64)
    inputs = 4 * (64 * 64 * 8 + 2 * 64 * 8)  # patches, texts and their directions
    assert ours_64 <= 2 * inputs + 4 * 64 * 64
    assert ours_64 < 10 * ours_8
    assert naive_64 > 50 * naive_8
    assert ours_64 < 4 * 64 * 64 * 64 < naive_64  # less than one number for each image, text and patch


def test_numbers_that_are_none_stay_none() -> None:
    generator = torch.Generator().manual_seed(0)
    patches, texts = torch.randn(3, 4, 8, generator=generator), torch.randn(5, 8, generator=generator)
    patches[1, 2] = torch.nan
    found = pairwise(patches, texts, 0.1, 1 << 24)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()
