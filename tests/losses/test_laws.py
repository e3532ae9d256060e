"""What holds for every loss, ours and those to come."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

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


IN_ORDER = {"refine": "draws a point for each pair, one after another"}
"""Losses that depend on the order of the pairs, and why."""

ONE_SIDED = {
    "alignclip": "pushes images apart, as the paper does, and compares their captions",
    "long_clip": "only captions have a shorter one",
    "m2_mix": "the share that it draws is the image's; the text gets the rest",
    "triplet": "captions are what is made false",
}
"""Losses in which images and texts may not change places, and why."""

HELD: dict[str, dict[str, Any]] = {"alignclip": {"reference": "another model"}}
"""Options of losses that take no gradient through something made of the embeddings, so that nothing is."""

Terms = dict[str, Tensor]


@pytest.fixture(params=NAMES)
def loss(request: pytest.FixtureRequest) -> Loss:
    found: Any = registry.build("losses", request.param)
    made: Loss = OfScores(found) if getattr(found, "pairwise", False) else found
    return made


def seeded(image: Tensor, text: Tensor) -> torch.Generator:
    return torch.Generator().manual_seed(3)


def turned(rows: Tensor, by: int) -> Tensor:
    """Other unit-length rows, each made of its own alone: they follow the order of the pairs."""
    return F.normalize(rows.detach() + rows.detach().roll(by, dims=1), dim=1)


EXTRAS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "generator": seeded,
    "negative_text": lambda image, text: turned(text, 1),
    "short_text": lambda image, text: turned(text, 2),
    "negative_image": lambda image, text: turned(image, 1),
    "teacher_image": lambda image, text: turned(image, 3),
    "teacher_text": lambda image, text: turned(text, 3),
    "teacher_scale": lambda image, text: torch.tensor(8.0, dtype=image.dtype),
    "reference_text": lambda image, text: turned(text, 4)[:, :-1],
}
"""Extra -> what it is for these pairs."""


def given(loss: Loss, image: Tensor, text: Tensor) -> Callable[..., Terms]:
    """The loss with the extras that it wants; what it draws is drawn alike in every call."""
    wants = getattr(loss, "wants", ())
    fixed = {want: EXTRAS[want](image, text) for want in wants if want != "generator"}

    def compute(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None = None, **more: Any) -> Terms:
        drawn = {"generator": seeded(image, text)} if "generator" in wants else {}
        return loss(image, text, scale, bias, **fixed, **drawn, **more)

    return compute


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def test_the_family_is_there() -> None:
    assert {"clip", "siglip"} <= set(NAMES)


def test_it_is_a_loss(loss: Loss) -> None:
    assert isinstance(loss, Loss)


def test_it_wants_what_a_contract_names(loss: Loss) -> None:
    assert set(getattr(loss, "wants", ())) <= EXTRAS.keys()


@pytest.mark.parametrize("bias", [None, -10.0])
def test_terms_are_finite_scalars_with_gradients(loss: Loss, bias: float | None) -> None:
    image, text = embeddings(8)
    scale = scalar(10.0)
    terms = given(loss, image, text)(image, text, scale, None if bias is None else scalar(bias))
    assert terms
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    total(terms).backward()
    for value in (image, text, scale):
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert value.grad.abs().max() > 0


def test_gradients_are_those_of_finite_differences(request: pytest.FixtureRequest, loss: Loss) -> None:
    name = request.node.callspec.params["loss"]
    if name in HELD:
        loss = registry.build("losses", name, **HELD[name])
    image, text = embeddings(4, 6, dtype=torch.float64)
    scale, bias = scalar(5.0, torch.float64), scalar(-2.0, torch.float64)
    compute = given(loss, image, text)
    assert torch.autograd.gradcheck(lambda *inputs: total(compute(*inputs)), (image, text, scale, bias))


def in_two_orders(loss: Loss) -> tuple[Tensor, Tensor]:
    image, text = embeddings(17)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
    sides = [(image, text), (image[order], text[order])]
    first, second = (total(given(loss, *side)(*side, scalar(12.0), scalar(-5.0))) for side in sides)
    return first, second


@pytest.mark.parametrize("loss", sorted({*NAMES} - IN_ORDER.keys()), indirect=True)
def test_the_order_of_the_pairs_does_not_matter(loss: Loss) -> None:
    torch.testing.assert_close(*in_two_orders(loss))


def in_both_places(loss: Loss) -> tuple[Tensor, Tensor]:
    image, text = embeddings(9)
    first = total(given(loss, image, text)(image, text, scalar(12.0)))
    return first, total(given(loss, text, image)(text, image, scalar(12.0)))


@pytest.mark.parametrize("loss", sorted({*NAMES} - ONE_SIDED.keys()), indirect=True)
def test_images_and_texts_may_change_places(loss: Loss) -> None:
    torch.testing.assert_close(*in_both_places(loss))


@pytest.mark.parametrize("loss", sorted({*NAMES} & IN_ORDER.keys()), indirect=True)
def test_losses_named_for_their_order_depend_on_it(loss: Loss) -> None:
    first, second = in_two_orders(loss)
    assert abs(first.item() - second.item()) > 1e-4


@pytest.mark.parametrize("loss", sorted({*NAMES} & ONE_SIDED.keys()), indirect=True)
def test_losses_named_for_their_side_have_one(loss: Loss) -> None:
    first, second = in_both_places(loss)
    assert abs(first.item() - second.item()) > 1e-4


def test_pairs_that_match_cost_less(loss: Loss) -> None:
    image, text = embeddings(16)
    compute = given(loss, image, text)
    matched = total(compute(image, text, scalar(10.0)))
    assert matched < total(compute(image, text.roll(1, dims=0), scalar(10.0)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_full(loss: Loss, dtype: torch.dtype) -> None:
    image, text = embeddings(32, dtype=dtype)
    terms = total(given(loss, image, text)(image, text, scalar(10.0, dtype)))
    wide = image.float(), text.float()
    expected = total(given(loss, *wide)(*wide, scalar(10.0)))
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
        shift = None if bias is None else scalar(bias, dtype)
        terms = total(given(loss, image, text)(image, text, scalar(100.0, dtype), shift))
        assert terms.isfinite()
        terms.backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()


def test_one_pair_is_a_batch(loss: Loss) -> None:
    image, text = embeddings(1)
    terms = total(given(loss, image, text)(image, text, scalar(10.0), scalar(-10.0)))
    assert terms.isfinite()
    terms.backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_unknown_extras_are_ignored(loss: Loss) -> None:
    image, text = embeddings(3)
    compute = given(loss, image, text)
    torch.testing.assert_close(
        total(compute(image, text, scalar(5.0), None, keys=("a", "b", "c"))),
        total(compute(image, text, scalar(5.0))),
    )


def test_it_reads_no_number_from_the_device(loss: Loss) -> None:
    """Tensors without numbers: what asks for one (`.item()`, `if tensor`, shapes made of values) fails."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        image, text = torch.zeros(4, 16, requires_grad=True), torch.zeros(4, 16, requires_grad=True)
        total(given(loss, image, text)(image, text, torch.zeros(()), torch.zeros(()))).backward()
        with pytest.raises(DataDependentOutputException):
            image.sum().item()
