"""What holds for every loss, ours and those to come."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip import registry
from patchclip.contracts import Loss
from tests.losses._batches import embeddings, scalar

NAMES = registry.names("losses")


class OfScores:
    """A loss that reads the scores of a patch head, given those of whole images: their cosines."""

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    def __call__(
        self,
        image: Tensor,
        text: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.loss(image @ text.T, logit_scale, **extras)
        return found


@pytest.fixture(params=NAMES)
def loss(request: pytest.FixtureRequest) -> Loss:
    found: Any = registry.build("losses", request.param)
    made: Loss = OfScores(found) if getattr(found, "pairwise", False) else found
    return made


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def test_the_family_is_there() -> None:
    assert {"clip", "siglip"} <= set(NAMES)


def test_it_is_a_loss(loss: Loss) -> None:
    assert isinstance(loss, Loss)


@pytest.mark.parametrize("bias", [None, -10.0])
def test_terms_are_finite_scalars_with_gradients(loss: Loss, bias: float | None) -> None:
    image, text = embeddings(8)
    scale = scalar(10.0)
    terms = loss(image, text, scale, None if bias is None else scalar(bias))
    assert terms
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    total(terms).backward()
    for value in (image, text, scale):
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert value.grad.abs().max() > 0


def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    image, text = embeddings(4, 6, dtype=torch.float64)
    scale, bias = scalar(5.0, torch.float64), scalar(-2.0, torch.float64)
    assert torch.autograd.gradcheck(lambda *inputs: total(loss(*inputs)), (image, text, scale, bias))


def test_the_order_of_the_pairs_does_not_matter(loss: Loss) -> None:
    image, text = embeddings(17)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
    expected = total(loss(image, text, scalar(12.0), scalar(-5.0)))
    torch.testing.assert_close(total(loss(image[order], text[order], scalar(12.0), scalar(-5.0))), expected)


def test_images_and_texts_may_change_places(loss: Loss) -> None:
    image, text = embeddings(9)
    expected = total(loss(image, text, scalar(12.0)))
    torch.testing.assert_close(total(loss(text, image, scalar(12.0))), expected)


def test_pairs_that_match_cost_less(loss: Loss) -> None:
    image, text = embeddings(16)
    matched = total(loss(image, text, scalar(10.0)))
    assert matched < total(loss(image, text.roll(1, dims=0), scalar(10.0)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_full(loss: Loss, dtype: torch.dtype) -> None:
    image, text = embeddings(32, dtype=dtype)
    terms = total(loss(image, text, scalar(10.0, dtype)))
    expected = total(loss(image.float(), text.float(), scalar(10.0)))
    assert terms.item() == pytest.approx(expected.item(), rel=0.03)
    terms.backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [None, -10.0])
def test_the_largest_scale_does_not_overflow(loss: Loss, bias: float | None, dtype: torch.dtype) -> None:
    one = F.normalize(torch.ones(40, 8), dim=-1).to(dtype)
    for image, text in ((one, one), (one, -one), (-one, one)):
        image = image.clone().requires_grad_()
        terms = total(loss(image, text, scalar(100.0, dtype), None if bias is None else scalar(bias, dtype)))
        assert terms.isfinite()
        terms.backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()


def test_one_pair_is_a_batch(loss: Loss) -> None:
    assert total(loss(*embeddings(1), scalar(10.0), scalar(-10.0))).isfinite()


def test_unknown_extras_are_ignored(loss: Loss) -> None:
    image, text = embeddings(3)
    torch.testing.assert_close(
        total(loss(image, text, scalar(5.0), None, keys=("a", "b", "c"))),
        total(loss(image, text, scalar(5.0))),
    )
