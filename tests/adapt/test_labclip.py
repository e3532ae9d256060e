"""LABCLIP: its loss by hand, planted maps found again, the law of the paper, and what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.adapt.methods.labclip import LabCLIP, binding_loss
from patchclip.adapt.unimodal import unimodal_probe
from patchclip.errors import ConfigError, DataError
from tests.adapt._bound import COLOURS, image_rows, scenes, swapped, text_rows


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(n: int, e: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return F.normalize(torch.randn(n, e, generator=generator(seed), dtype=torch.float64), dim=-1).to(dtype)


def choices(image: Tensor, true: Tensor, false: Tensor) -> float:
    """Share of images whose true caption scores above the false one; a tie is wrong."""
    true, false = F.normalize(true, dim=-1), F.normalize(false, dim=-1)
    return float(((image * true).sum(1) > (image * false).sum(1) + 1e-6).double().mean())


def test_the_loss_of_two_pairs_by_hand() -> None:
    image = torch.eye(2)
    text, negative = 3 * torch.eye(2), 5 * torch.eye(2).flip(0)  # lengths do not matter
    # rows: own 1, other 0, false ones 0 and 1 -> log(2 + 2 / e); columns: log(1 + 1 / e)
    expected = (math.log(2 + 2 / math.e) + math.log(1 + 1 / math.e)) / 2
    assert float(binding_loss(image, text, negative, torch.tensor(1.0))) == pytest.approx(expected, abs=1e-6)


def test_the_loss_is_the_released_one_with_its_gradients() -> None:
    image, text, negative = (unit(7, 5, seed, torch.float64) for seed in (1, 2, 3))
    weight = torch.randn(5, 5, generator=generator(4), dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def released() -> Tensor:
        mapped = [rows @ weight.T for rows in (text, negative)]
        texts = torch.cat([rows / rows.norm(dim=-1, keepdim=True) for rows in mapped])
        logits = image @ texts.T
        hot = torch.eye(7, 14, dtype=torch.float64)
        first = F.cross_entropy(scale.exp() * logits, hot)
        second = F.cross_entropy(scale.exp() * logits.T[:7, :], torch.arange(7))
        return (first + second) / 2

    ours = binding_loss(image, text @ weight.T, negative @ weight.T, scale.exp())
    torch.testing.assert_close(ours, released())
    for mine, theirs in zip(
        torch.autograd.grad(ours, (weight, scale)),
        torch.autograd.grad(released(), (weight, scale)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_gradients_are_those_of_finite_differences() -> None:
    rows = [unit(4, 3, seed, torch.float64).requires_grad_() for seed in (5, 6, 7)]
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(binding_loss, (*rows, scale))


def test_the_first_step_starts_at_the_identity_and_scale_1() -> None:
    image, text, negative = (unit(6, 4, seed) for seed in (1, 2, 3))
    found = LabCLIP(epochs=1, batch_size=6, learning_rate=1e-12).fit(image, text, negative, generator())
    torch.testing.assert_close(found.weight, torch.eye(4))
    assert torch.equal(F.normalize(found.apply(text), dim=-1), text) or torch.allclose(
        found.apply(text), text
    )
    step = LabCLIP(epochs=1, batch_size=6, learning_rate=0.1).fit(image, text, negative, generator())
    weight = torch.eye(4, requires_grad=True)
    binding_loss(image, text @ weight.T, negative @ weight.T, torch.tensor(1.0)).backward()
    assert weight.grad is not None
    torch.testing.assert_close(step.weight, torch.eye(4) - 0.1 * weight.grad.sign(), atol=1e-4, rtol=0)


def test_a_planted_rotation_is_found_again() -> None:
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator(1)))[0]
    image, others = unit(600, 8, 2), unit(600, 8, 3)
    text, negative = image @ turn, others @ turn  # A = turn makes them the images
    method = LabCLIP(epochs=60, batch_size=100, learning_rate=0.05, log_scale=2.0)
    found = method.fit(image[:500], text[:500], negative[:500], generator())
    mapped = F.normalize(found.apply(text[500:]), dim=-1)
    assert float((text[500:] * image[500:]).sum(1).mean()) < 0.3
    assert float((mapped * image[500:]).sum(1).mean()) > 0.95
    assert (mapped @ image[500:].T).argmax(1).tolist() == list(range(100))


def test_binding_that_each_modality_holds_alone_is_brought_together() -> None:
    found = scenes(900)
    image, text, negative = image_rows(found), text_rows(found), text_rows(swapped(found))
    train, test = slice(0, 700), slice(700, 900)
    assert choices(image[test], text[test], negative[test]) == 0.0  # ties: a bag of words
    mapped = LabCLIP(epochs=20, batch_size=128, learning_rate=0.01).fit(
        image[train], text[train], negative[train], generator()
    )
    assert choices(image[test], mapped.apply(text[test]), mapped.apply(negative[test])) > 0.95
    with_object = found[:, 1] == 0  # the colour of object 0, read from one modality
    for rows in (image, text):
        own, colours = rows[with_object], found[with_object, 0]
        half = len(own) // 2
        share = unimodal_probe(
            (own[:half], colours[:half]), (own[half:], colours[half:]), generator(), 60, 5.0
        )
        assert share > 0.95


def test_a_caption_shuffled_into_itself_costs_ln_2_more_as_released() -> None:
    image = torch.eye(3)
    far = torch.tensor(1000.0)
    true, other = torch.eye(3), -torch.eye(3)
    assert float(binding_loss(image, true, other, far)) == pytest.approx(0.0, abs=1e-6)
    assert float(binding_loss(image, true, true, far)) == pytest.approx(math.log(2) / 2, abs=1e-6)


def test_the_generator_decides_and_torchs_own_stays() -> None:
    image, text, negative = (unit(30, 6, seed) for seed in (1, 2, 3))
    method, state = LabCLIP(epochs=2, batch_size=7, learning_rate=0.01), torch.get_rng_state()
    first, second, other = (method.fit(image, text, negative, generator(s)).weight for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_learned_from_in_float32(dtype: torch.dtype) -> None:
    image, text, negative = (unit(20, 6, seed).to(dtype) for seed in (1, 2, 3))
    method = LabCLIP(epochs=3, batch_size=8, learning_rate=0.01)
    found = method.fit(image, text, negative, generator())
    assert found.weight.dtype is torch.float32
    wide = method.fit(image.float(), text.float(), negative.float(), generator())
    torch.testing.assert_close(found.weight, wide.weight)


def test_inside_no_grad_it_still_learns() -> None:
    image, text, negative = (unit(20, 6, seed) for seed in (1, 2, 3))
    with torch.no_grad():
        method = LabCLIP(epochs=1, batch_size=20, learning_rate=0.1)
        found = method.fit(image, text, negative, generator())
    assert not torch.allclose(found.weight, torch.eye(6), atol=0.05)


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}]
)
def test_other_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        LabCLIP(**options)  # type: ignore[arg-type]


def test_what_cannot_be_learned_from_is_named() -> None:
    image, text, negative = (unit(5, 4, seed) for seed in (1, 2, 3))
    broken = negative.clone()
    broken[2, 1] = float("inf")
    with pytest.raises(DataError, match="finite"):
        LabCLIP().fit(image, text, broken, generator())
    with pytest.raises(DataError, match="at least one"):
        LabCLIP().fit(image[:0], text[:0], negative[:0], generator())
    labels = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(DataError, match="0 to test"):
        unimodal_probe((image, labels), (image[:0], labels[:0]), generator())


def test_a_probe_of_one_modality_without_binding_stays_at_chance() -> None:
    found = scenes(800, seed=6)
    bag = image_rows(found)[:, : COLOURS + 3]  # two colours are there: which is whose, is not
    own = (found[:, 1] == 0).nonzero()[:, 0]
    half = len(own) // 2
    rows, colours = bag[own], found[own, 0]
    share = unimodal_probe((rows[:half], colours[:half]), (rows[half:], colours[half:]), generator(), 60, 5.0)
    assert 0.3 < share < 0.7
