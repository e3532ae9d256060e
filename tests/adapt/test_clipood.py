"""CLIPood against hand arithmetic, a plain training loop and its released code."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip.adapt.methods.clipood import CLIPood, margin_logits
from patchclip.contracts import TowerAdapter
from patchclip.errors import ConfigError, TowerError
from tests.adapt._labelled import (
    KINDS,
    Pictures,
    accuracy,
    as_it_was,
    changed,
    generator,
    model_of,
    prompts,
    shots_of,
    state,
)


def rows(b: int = 6, c: int = 4, e: int = 8, dtype: torch.dtype = torch.float64) -> Any:
    drawn = torch.randn(b + c, e, generator=generator(), dtype=torch.float64)
    unit = F.normalize(drawn, dim=-1).to(dtype)
    return unit[:b], unit[b:], torch.arange(b) % c


def test_margins_by_hand() -> None:
    image, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = margin_logits(image, texts, torch.tensor([0]), 10.0, 0.3)
    # cosines 1, 0, -1 with the image; distances 0, 1, 2 to the true class, 0.3 of which are added
    torch.testing.assert_close(found, torch.tensor([[10.0, 3.0, -4.0]]))


def test_without_a_margin_it_is_plain_cross_entropy() -> None:
    image, texts, labels = rows()
    assert torch.equal(margin_logits(image, texts, labels, 20.0, 0.0), 20.0 * (image @ texts.T))


@pytest.mark.parametrize("margin", [0.3, 2.0])
def test_the_loss_is_that_of_the_released_code(margin: float) -> None:
    """Which takes margin t_y off the image: another constant in each row, the same softmax and gradient."""
    image, texts, labels = rows()
    results = []
    for ours in (True, False):
        leaf = image.clone().requires_grad_()
        if ours:
            logits = margin_logits(leaf, texts, labels, 100.0, margin)
        else:
            logits = 100.0 * (leaf - margin * texts[labels]) @ texts.T
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-10)


def test_gradients_are_those_of_differences() -> None:
    image, texts, labels = rows()

    def loss(leaf: Tensor) -> Tensor:
        return F.cross_entropy(margin_logits(leaf, texts, labels, 3.0, 0.3), labels)

    assert torch.autograd.gradcheck(loss, image.requires_grad_())


def test_a_near_rival_gets_less_on_top_than_a_far_one() -> None:
    """The law of the margin: the softmax of a batch wants more room from classes that mean something else."""
    image, texts, labels = rows()
    added = margin_logits(image, texts, labels, 1.0, 0.3) - image @ texts.T
    order = (texts[labels] @ texts.T).argsort(dim=1, descending=True)
    assert (added.gather(1, order).diff(dim=1) >= -1e-12).all()
    assert added[torch.arange(6), labels].abs().max() < 1e-12


def small(**options: Any) -> CLIPood:
    return CLIPood(**{"steps": 6, "lr": 1e-3, "batch_size": 5, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_image_tower_moves_and_the_model_stays_plain(kind: str) -> None:
    model = model_of(kind).train()
    model.visual.eval()
    shots, before = shots_of(model, shots=2), state(model)
    method = small(steps=2)
    assert isinstance(method, TowerAdapter)
    with as_it_was(model):
        assert method.fit(model, shots, prompts(), generator()) is method
    buffers = {name for name, _ in model.named_buffers()}
    assert changed(model, before) == {f"visual.{name}" for name, _ in model.visual.named_parameters()}
    assert not changed(model, before) & buffers


def test_updates_are_those_of_plain_training_of_the_tower() -> None:
    """A reference in ten lines: the parameters themselves under AdamW, the texts embedded once."""
    model, reference = model_of("native").double(), model_of("native").double()
    shots, tokens = shots_of(model), prompts()
    shots = Pictures(shots.images.double(), shots.labels)
    CLIPood(0.3, None, steps=3, lr=1e-3, batch_size=12).fit(model, shots, tokens, generator())
    optimizer = torch.optim.AdamW(reference.visual.parameters(), lr=1e-3, weight_decay=0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    texts, order = reference.encode_text(tokens, normalize=True).detach(), generator()
    for _ in range(3):
        drawn = torch.randperm(12, generator=order)
        image = reference.encode_image(shots.images[drawn], normalize=True)
        labels = shots.labels[drawn]
        logits = reference.logit_scale.exp().detach() * (image - 0.3 * texts[labels]) @ texts.T
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        cosine.step()
    for (name, one), other in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6, msg=name)


def test_the_generator_decides_everything() -> None:
    found = []
    for seed in (0, 0, 1):
        model = model_of("native")
        small().fit(model, shots_of(model), prompts(), generator(seed))
        found.append(model.visual.proj.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_held_out_pictures_are_recognised_after_some_steps() -> None:
    model = model_of("native")
    train, test = shots_of(model, shots=8), shots_of(model, shots=16, seed=5)
    before = accuracy(model, test, prompts())
    CLIPood(steps=30, lr=1e-3, beta=None, batch_size=12).fit(model, train, prompts(), generator())
    assert before < 0.7 < 0.95 < accuracy(model, test, prompts())


def test_norms_learn_unless_they_are_frozen_before() -> None:
    """The released code calls eval() to freeze its norms, which does not freeze gains and biases."""
    for frozen in (False, True):
        model = model_of("native")
        for module in model.visual.modules():
            if isinstance(module, nn.LayerNorm) and frozen:
                module.requires_grad_(False)
        before = state(model)
        small().fit(model, shots_of(model), prompts(), generator())
        assert any("ln_" in name for name in changed(model, before)) is not frozen


def test_what_is_frozen_stays_and_all_frozen_is_refused() -> None:
    model = model_of("native")
    model.visual.conv1.requires_grad_(False)
    before = state(model)
    with as_it_was(model):
        small().fit(model, shots_of(model), prompts(), generator())
    assert "visual.conv1.weight" not in changed(model, before)
    model.visual.requires_grad_(False)
    with pytest.raises(TowerError, match="every parameter of the image tower is frozen"):
        small().fit(model, shots_of(model), prompts(), generator())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_learn_in_float32(dtype: torch.dtype) -> None:
    """Updates below half a step of the format add up; the released code rounds them away one by one."""
    lr, steps, ours = 1e-5, 300, Row(torch.full((4, 4), 0.5)).to(dtype)
    shots = Pictures(torch.eye(4), torch.arange(4))
    method = CLIPood(steps=steps, lr=lr, weight_decay=0.0, beta=None, batch_size=4)
    method.fit(ours, shots, torch.arange(4)[:, None], generator())
    assert ours.visual.weight.dtype == dtype
    assert bool((ours.visual.weight != 0.5).any())
    released = torch.full((4, 4), 0.5, dtype=dtype)
    for _ in range(steps):  # as engine.py: to float32, an update (Adam's is at most lr), to half again
        released = (released.float() + lr).to(dtype)
    assert bool((released == 0.5).all())


class Row(nn.Module):
    """A CLIP of one matrix: images and texts are vectors."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.visual = nn.Linear(4, 4, bias=False)
        self.visual.weight.data = weight.clone()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def encode_image(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.visual(pixels)
        return found

    def encode_text(self, tokens: Tensor) -> Tensor:
        return F.one_hot(tokens[:, 0], 4).to(self.visual.weight.dtype)


def test_progress_counts_to_the_last_step() -> None:
    model, told = model_of("native"), []
    small(steps=4).fit(model, shots_of(model), prompts(), generator(), lambda *now: told.append(now))
    assert [now[:2] for now in told] == [(3, 4), (4, 4)]
    assert all(math.isfinite(now[2]) for now in told)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"margin": -0.1}, "margin=-0.1"),
        ({"margin": math.nan}, "margin=nan"),
        ({"beta": 0.0}, "beta=0.0"),
        ({"beta": math.inf}, "beta=inf"),
        ({"steps": 0}, "steps=0"),
        ({"lr": -1.0}, "lr=-1.0"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CLIPood(**options)
