"""CLIP-SVD: only singular values learn, and what is left is a plain model; against a reference by modules."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from patchclip.adapt.methods._singular import matrices, singular
from patchclip.adapt.methods.clip_svd import ClipSVD
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


def small(**options: Any) -> ClipSVD:
    return ClipSVD(**{"steps": 3, "lr": 1e-2, "batch_size": 5, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_matrices_of_blocks_move_and_the_model_stays_plain(kind: str) -> None:
    model = model_of(kind).train()
    model.visual.eval()
    shots, before = shots_of(model, shots=2), state(model)
    method = small(steps=1)
    assert isinstance(method, TowerAdapter)
    with as_it_was(model):
        assert method.fit(model, shots, prompts(), generator()) is method
    assert changed(model, before) == set(matrices(model))


@pytest.mark.parametrize("kind", KINDS)
def test_singular_vectors_stay(kind: str) -> None:
    """U^T W' V is diagonal still, in each part of fused weights."""
    model = model_of(kind)
    before = {name: singular(model.get_parameter(name), parts) for name, parts in matrices(model).items()}
    small(steps=2).fit(model, shots_of(model, shots=2), prompts(), generator())
    for name, one in before.items():
        after = model.get_parameter(name).detach().unflatten(0, (one.left.shape[0], -1))
        core = one.left.mT @ after @ one.right.mT
        rest = core - torch.diag_embed(core.diagonal(dim1=-2, dim2=-1))
        assert float(rest.abs().max()) < 1e-5 * float(one.start.max()), name
        assert float((core.diagonal(dim1=-2, dim2=-1) - one.start).abs().max()) > 1e-4, name


def test_as_many_numbers_learn_as_there_are_singular_values() -> None:
    """By hand: for each block q, k, v and output of width 64, and two matrices of the MLP with 64 values."""
    model = model_of("native")
    found = ClipSVD().decomposed(model)
    assert sum(one.values.numel() for one in found.values()) == 6 * 64 * 3  # 2 blocks for images, 1 for text
    assert all(one.values.is_leaf and one.values.requires_grad for one in found.values())
    assert not any(one.weight.requires_grad for one in found.values())
    assert len(ClipSVD(text=False).decomposed(model)) == 8
    assert len(ClipSVD(image=False).decomposed(model)) == 4


class Spectrum(nn.Module):
    """W = U diag(s) V^T as torch's parametrisation."""

    def __init__(self, weight: Tensor, parts: int) -> None:
        super().__init__()
        left, _, right = torch.linalg.svd(weight.detach().unflatten(0, (parts, -1)), full_matrices=False)
        self.left, self.right = left, right

    def forward(self, values: Tensor) -> Tensor:
        return ((self.left * values[:, None]) @ self.right).flatten(0, 1)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return torch.linalg.svdvals(weight.unflatten(0, (len(self.left), -1)))


@pytest.mark.parametrize("kind", ["native", "custom"])
def test_updates_are_those_of_parametrised_modules(kind: str) -> None:
    """An independent reference: torch's own parametrisations on every module, under AdamW."""
    model, reference = model_of(kind).double(), model_of(kind).double().requires_grad_(False)
    shots, tokens = shots_of(model), prompts()
    shots = Pictures(shots.images.double(), shots.labels)
    learning = []
    for name, parts in matrices(reference).items():
        path, attribute = name.rsplit(".", 1)
        module = reference.get_submodule(path)
        parametrize.register_parametrization(module, attribute, Spectrum(getattr(module, attribute), parts))
        learning.append(module.parametrizations[attribute].original.requires_grad_())
    ClipSVD(steps=3, lr=1e-2, batch_size=12).fit(model, shots, tokens, generator())
    optimizer = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3, 1e-6)
    order = generator()
    for _ in range(3):
        drawn = torch.randperm(12, generator=order)
        image = reference.encode_image(shots.images[drawn], normalize=True)
        text = reference.encode_text(tokens, normalize=True)
        optimizer.zero_grad()
        F.cross_entropy(reference.logit_scale.exp() * image @ text.T, shots.labels[drawn]).backward()
        optimizer.step()
        cosine.step()
    for name in matrices(model):
        path, attribute = name.rsplit(".", 1)
        expected = getattr(reference.get_submodule(path), attribute)
        torch.testing.assert_close(model.get_parameter(name), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_batch_sees_the_model_as_it_is(kind: str) -> None:
    """The identity at the start: what is encoded is bit for bit what the plain model gives."""
    model, seen = model_of(kind), []

    class Watching(ClipSVD):
        def step(self, classes: Any, fixed: Tensor | None, rows: list[int]) -> Tensor:
            seen.append((rows, classes.images(rows).detach(), classes.texts().detach()))
            return super().step(classes, fixed, rows)

    shots = shots_of(model, shots=2)
    twin = model_of(kind)
    Watching(steps=1).fit(model, shots, prompts(), generator())
    rows, image, text = seen[0]
    with torch.no_grad():
        torch.testing.assert_close(image, twin.encode_image(shots.images[rows], normalize=True))
        torch.testing.assert_close(text, twin.encode_text(prompts(), normalize=True))


@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_alone(tower: str) -> None:
    model = model_of("native")
    before = state(model)
    small(image=tower == "image", text=tower == "text").fit(model, shots_of(model), prompts(), generator())
    moved = {"image" if name.startswith("visual.") else "text" for name in changed(model, before)}
    assert moved == {tower}


def test_a_tower_without_blocks_is_refused_by_name() -> None:
    model = model_of("resnet")
    with pytest.raises(TowerError, match=r"the image tower has no transformer blocks.*image=False"):
        small().fit(model, shots_of(model), prompts(), generator())
    small(image=False, steps=1).fit(model, shots_of(model), prompts(), generator())


def test_held_out_pictures_are_recognised_after_some_steps() -> None:
    model = model_of("native")
    train, test = shots_of(model, shots=8), shots_of(model, shots=16, seed=5)
    before = accuracy(model, test, prompts())
    ClipSVD(steps=40, lr=2e-2, batch_size=12).fit(model, train, prompts(), generator())
    assert before < 0.7 < 0.9 < accuracy(model, test, prompts())


def test_the_generator_decides_everything() -> None:
    found = []
    for seed in (0, 0, 1):
        model = model_of("native")
        small().fit(model, shots_of(model), prompts(), generator(seed))
        found.append(model.visual.transformer.resblocks[0].attn.in_proj_weight.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("kind", ["native", "timm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_learn(kind: str, dtype: torch.dtype) -> None:
    model = model_of(kind).to(dtype)
    before = state(model)
    small().fit(model, shots_of(model, shots=2), prompts(), generator())
    assert set(matrices(model)) == changed(model, before)
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items())
    assert all(bool(value.isfinite().all()) for value in model.parameters())


def test_steps_follow_the_shots_of_a_class() -> None:
    model, told = model_of("native"), []
    method = ClipSVD(lr=1e-3, batch_size=6)

    class Enough(Exception):
        pass

    def stop(step: int, steps: int, loss: float) -> None:
        told.append(steps)
        raise Enough

    for shots in (1, 4):
        with pytest.raises(Enough):
            method.fit(model, shots_of(model, shots=shots), prompts(), generator(), stop)
    assert told == [200, 800]


def test_the_rate_falls_once_where_the_released_base_to_new_code_goes_up_again() -> None:
    """Its scheduler is told the epochs but stepped every update: after twice as many it is up again."""
    epochs, updates = 20, 40
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=4e-4)
    released = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=1e-6)
    rates: list[Any] = [4e-4]
    for _ in range(updates):
        optimizer.step()
        released.step()
        rates.append(released.get_last_lr()[0])
    assert rates[epochs] == pytest.approx(1e-6)
    assert rates[updates] == pytest.approx(4e-4)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"image": False, "text": False}, "nothing to adapt"),
        ({"steps": 0}, "steps=0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ClipSVD(**options)
