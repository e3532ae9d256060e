"""Matryoshka's sum over prefixes: identities, gradients, and what training does with it."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip import registry
from patchclip.contracts import Wrapping
from patchclip.errors import ConfigError
from patchclip.losses.clip import ClipLoss
from patchclip.losses.contrastive_gap import ContrastiveGapLoss
from patchclip.losses.matryoshka import MatryoshkaLoss, halves
from patchclip.losses.siglip import SigLIPLoss
from tests.losses._batches import embeddings, scalar


def around(inner: Any, **options: Any) -> MatryoshkaLoss:
    loss = MatryoshkaLoss(wraps="siglip" if isinstance(inner, SigLIPLoss) else "clip", **options)
    loss.inner = inner
    return loss


@pytest.mark.parametrize("inner", [ClipLoss(0.1), SigLIPLoss(), ContrastiveGapLoss()])
def test_the_whole_embedding_alone_is_the_inner_loss(inner: nn.Module) -> None:
    image, text = embeddings(8)
    inputs = (image, text, scalar(9.0), scalar(-2.0))
    found, expected = around(inner, dims=(16,))(*inputs), inner(*inputs)
    assert found.keys() == expected.keys()
    for name, term in expected.items():
        assert found[name].item() == term.item()


@pytest.mark.parametrize("inner", [ClipLoss(), SigLIPLoss()])
def test_terms_are_those_of_prefixes_cut_by_hand(inner: nn.Module) -> None:
    image, text = embeddings(8)
    found = around(inner, dims=(4, 16), weights=(0.5, 2.0))(image, text, scalar(9.0), scalar(-2.0))
    short = (x[:, :4] / x[:, :4].norm(dim=1, keepdim=True) for x in (image, text))
    expected = inner(*short, scalar(9.0), scalar(-2.0))["contrastive"]
    assert list(found) == ["contrastive_4", "contrastive"]
    torch.testing.assert_close(found["contrastive_4"], 0.5 * expected)
    whole = inner(image, text, scalar(9.0), scalar(-2.0))["contrastive"]
    torch.testing.assert_close(found["contrastive"], 2 * whole)


def test_a_prefix_ignores_later_numbers() -> None:
    image, text = embeddings(8)
    terms = MatryoshkaLoss(dims=(4, 16))(image, text, scalar(9.0))
    gradient = torch.autograd.grad(terms["contrastive_4"], image)[0]
    assert gradient[:, 4:].abs().max() == 0
    assert gradient[:, :4].abs().min() > 0
    later = image.detach().clone()
    later[:, 4:] += 1
    again = MatryoshkaLoss(dims=(4,))(later, text, scalar(9.0))["contrastive_4"]
    torch.testing.assert_close(again, terms["contrastive_4"])


def test_plain_clip_needs_no_inner_loss_but_others_do() -> None:
    image, text = embeddings(8)
    found = MatryoshkaLoss(dims=(4, 16))(image, text, scalar(9.0), scalar(-1.0))
    expected = around(ClipLoss(), dims=(4, 16))(image, text, scalar(9.0), scalar(-1.0))
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)
    for wraps in ("siglip", "clip:label_smoothing=0.1"):
        with pytest.raises(ConfigError, match="was not given it: set its attribute `inner`"):
            MatryoshkaLoss(wraps)(image, text, scalar(9.0))


class Recording(nn.Module):
    """Keeps the extras that it was given."""

    def forward(self, image: Tensor, text: Tensor, scale: Tensor, bias: None, **extras: Any) -> Any:
        self.seen = extras
        return {"contrastive": scale}


@pytest.mark.parametrize("name", ["negative_text", "short_text", "negative_image", "teacher_text"])
def test_extras_of_the_same_space_are_cut_too(name: str) -> None:
    image, text = embeddings(6)
    other = embeddings(6, seed=2)[0].detach()
    other[3] = 0  # there is none
    inner = Recording()
    around(inner, dims=(4,))(image, text, scalar(9.0), **{name: other})
    torch.testing.assert_close(inner.seen[name], F.normalize(other[:, :4], dim=1))
    assert inner.seen[name][3].tolist() == [0, 0, 0, 0]
    assert inner.seen[name][0].norm().item() == pytest.approx(1)


def test_other_extras_pass_unchanged() -> None:
    inner, reference, scale = Recording(), torch.ones(3, 20), torch.tensor(4.0)
    loss = around(inner, dims=(4,))
    loss(*embeddings(3), scalar(1.0), reference_text=reference, teacher_scale=scale, keys=("a",))
    assert inner.seen["reference_text"] is reference
    assert inner.seen["teacher_scale"] is scale
    assert inner.seen["keys"] == ("a",)


def test_gradients_are_those_of_finite_differences() -> None:
    image, text = embeddings(3, 6, dtype=torch.float64)
    loss = MatryoshkaLoss(dims=(2, 6))
    assert torch.autograd.gradcheck(
        lambda *inputs: torch.stack(list(loss(*inputs).values())).sum(),
        (image, text, scalar(4.0, torch.float64)),
    )


@pytest.mark.parametrize("width, expected", [(512, (512, 256, 128, 64, 32, 16, 8)), (12, (12,)), (4, (4,))])
def test_without_names_prefixes_halve(width: int, expected: tuple[int, ...]) -> None:
    assert halves(width) == expected


def test_training_puts_first_what_matters() -> None:
    """A linear text tower on fixed images: cut to an eighth, pairs find each other more often than plain."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(64, 32, generator=generator)
    hits = []
    for loss in (MatryoshkaLoss(dims=(32,)), MatryoshkaLoss(dims=(4, 8, 16, 32))):
        towers = [torch.eye(32).requires_grad_(), torch.eye(32).requires_grad_()]
        text = image @ torch.randn(32, 32, generator=torch.Generator().manual_seed(1)) / 32**0.5
        optimizer = torch.optim.Adam(towers, lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            x, t = F.normalize(image @ towers[0], dim=1), F.normalize(text @ towers[1], dim=1)
            torch.stack(list(loss(x, t, torch.tensor(10.0)).values())).sum().backward()
            optimizer.step()
        x, t = (
            F.normalize((a @ b)[:, :4].detach(), dim=1) for a, b in zip((image, text), towers, strict=True)
        )
        hits.append(((x @ t.T).argmax(dim=1) == torch.arange(64)).float().mean().item())
    assert hits[1] > hits[0] + 0.2


def test_it_wraps() -> None:
    loss: Any = registry.build("losses", "matryoshka", wraps="siglip", dims=[4, 8], weights=[1.0, 0.5])
    assert loss.dims == (4, 8)
    loss.inner = SigLIPLoss()
    assert set(loss(*embeddings(4), scalar(5.0))) == {"contrastive_4", "contrastive_8"}
    assert isinstance(loss, Wrapping)


def test_a_prefix_longer_than_the_embeddings_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dims=\(8, 32\) must not be above 16"):
        MatryoshkaLoss(dims=(8, 32))(*embeddings(4), scalar(5.0))


@pytest.mark.parametrize(
    "options", [{"dims": (0, 4)}, {"dims": (4, 4)}, {"weights": (1.0,)}, {"dims": (4,), "weights": (0.0,)}]
)
def test_other_prefixes_and_weights_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"dims=|weights="):
        MatryoshkaLoss(**options)
