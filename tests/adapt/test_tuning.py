"""The loop on shots: orders, rates, what is refused, and a model that is whole whatever happens."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchclip.adapt.methods._standing import Classes, held, merge, substituted, trainable
from patchclip.adapt.methods._tuning import Schedule, batches, tune
from patchclip.errors import ConfigError, DataError, TowerError, TrainingError
from tests.adapt._labelled import Pictures, as_it_was, generator, model_of, prompts, shots_of


def run(gradients: Any, trained: list[Tensor], schedule: Schedule, count: int = 5) -> list[Any]:
    told: list[Any] = []
    tune(trained, gradients, count, schedule, generator(), lambda *now: told.append(now))
    return told


def test_each_pass_is_an_order_of_all_rows() -> None:
    found = batches(10, 4, generator())
    passes = [[row for _ in range(3) for row in next(found)] for _ in range(3)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    again = batches(10, 4, generator())
    assert [next(again) for _ in range(3)] == [passes[0][:4], passes[0][4:8], passes[0][8:]]
    assert next(batches(10, 4, generator(1))) != passes[0][:4]


def test_the_updates_are_those_of_adamw_along_half_a_cosine() -> None:
    """By hand: a gradient of constant sign moves Adam by the learning rate, after the decay."""
    weight, seen = torch.ones(1, dtype=torch.float64).requires_grad_(), []

    def gradients(rows: list[int]) -> Tensor:
        seen.append(float(weight.detach()))
        loss = 3 * weight.sum()
        loss.backward()
        return loss

    run(gradients, [weight], Schedule(6, 2, lr=0.1, weight_decay=0.2, final_lr=0.01))
    expected = 1.0
    for step in range(6):
        assert seen[step] == pytest.approx(expected)
        lr = 0.01 + (0.1 - 0.01) * (1 + math.cos(math.pi * step / 6)) / 2
        expected = expected * (1 - lr * 0.2) - lr
    assert float(weight.detach()) == pytest.approx(expected, abs=1e-6)


def test_progress_is_told_after_every_pass_and_at_the_end() -> None:
    weight = torch.zeros(1, requires_grad=True)

    def gradients(rows: list[int]) -> Tensor:
        weight.grad = torch.zeros(1)
        return torch.tensor(float(len(rows)))

    told = run(gradients, [weight], Schedule(5, 2, 0.1, 0.0), count=5)
    assert told == [(1, None), (2, None), (3, 5 / 3), (4, None), (5, 2.0)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_step(bad: float) -> None:
    weight, values = torch.zeros(1, requires_grad=True), iter([1.0, 2.0, 3.0, 4.0, bad, 5.0, 6.0])

    def gradients(rows: list[int]) -> Tensor:
        weight.grad = torch.zeros(1)
        return torch.tensor(next(values))

    with pytest.raises(TrainingError, match=rf"is {bad} at step 5 of 9: lower lr=0.5"):
        run(gradients, [weight], Schedule(9, 2, 0.5, 0.0))


@pytest.mark.parametrize(
    "options, said",
    [
        ({"steps": 0}, "steps=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"lr": math.nan}, "lr=nan"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"final_lr": 1.0}, "final_lr=1.0"),
    ],
)
def test_settings_outside_their_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Schedule(**{"steps": 1, "batch_size": 1, "lr": 0.1, "weight_decay": 0.0, **options})


def test_a_held_model_is_given_back_as_it_was() -> None:
    model = model_of("native").train()
    model.visual.eval()
    model.visual.transformer.resblocks[0].train()
    model.token_embedding.requires_grad_(False)
    with as_it_was(model):
        with held(model):
            assert not any(m.training for m in model.modules())
            assert not any(p.requires_grad for p in model.parameters())
        with pytest.raises(KeyError), held(model):
            raise KeyError


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_stand_ins_and_nothing_else(checkpointing: bool) -> None:
    """Also where activations are computed again in the backward, which then sees the stand-ins."""
    model = model_of("native")
    model.set_grad_checkpointing(checkpointing)
    pixels = torch.randn(2, 3, 32, 32, generator=generator())
    name = "visual.transformer.resblocks.1.attn.in_proj_weight"
    other = (1.5 * model.get_parameter(name)).detach().requires_grad_()

    def work() -> Tensor:
        loss: Tensor = model.encode_image(pixels).square().sum()
        loss.backward()
        return loss

    with as_it_was(model), held(model):
        found = substituted(model, {name: other}, work).detach()
    twin = model_of("native")
    merge(twin, {name: other})
    expected = twin.encode_image(pixels).square().sum()
    expected.backward()
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(other.grad, twin.get_parameter(name).grad)


def test_a_failure_inside_leaves_the_own_weights_in_place() -> None:
    model = model_of("native")
    with as_it_was(model), pytest.raises(ZeroDivisionError):
        substituted(model, {"visual.proj": torch.zeros_like(model.visual.proj)}, lambda: 1 / 0)  # type: ignore


def test_merging_keeps_the_parameter_objects_and_their_dtype() -> None:
    model = nn.Linear(3, 2).bfloat16()
    with as_it_was(model):
        merge(model, {"weight": torch.full((2, 3), 0.1)})
    assert torch.equal(model.weight, torch.full((2, 3), 0.1).bfloat16())


def test_trainable_leaves_out_what_is_frozen() -> None:
    tower = model_of("native").visual
    everything = trainable(tower)
    assert everything == [name for name, _ in tower.named_parameters()]
    tower.proj.requires_grad_(False)
    assert set(everything) - set(trainable(tower)) == {"proj"}
    with pytest.raises(TowerError, match=r"frozen: call model.visual.requires_grad_\(True\)"):
        trainable(tower.requires_grad_(False))


def test_embeddings_and_scale_are_those_of_the_model() -> None:
    model = model_of("native")
    shots = shots_of(model)
    classes = Classes(model, shots, prompts())
    assert float(classes.scale) == pytest.approx(1 / 0.07, rel=1e-5)
    plain = model.encode_image(shots.images[[2, 0]], normalize=True)
    torch.testing.assert_close(classes.images([2, 0]), plain, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        classes.texts(), model.encode_text(prompts(), normalize=True), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["native", "timm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_pixels_arrive_in_the_dtype_of_the_tower(kind: str, dtype: torch.dtype) -> None:
    model = model_of(kind).to(dtype)
    classes = Classes(model, shots_of(model), prompts())
    with torch.no_grad():
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        assert classes.images([0, 1]).dtype == classes.texts().dtype == wanted


@pytest.mark.parametrize(
    "labels, classes, said",
    [([], 3, "got 0 images"), ([0, 0], 1, "1 classes"), ([0, 3], 3, "0 to 3"), ([-1, 2], 3, "-1 to 2")],
)
def test_shots_without_a_meaning_are_refused(labels: list[int], classes: int, said: str) -> None:
    model = model_of("native")
    shots = Pictures(torch.zeros(len(labels), 3, 32, 32), torch.tensor(labels, dtype=torch.int64))
    with pytest.raises(DataError, match=said):
        Classes(model, shots, prompts(classes))


class Short(Pictures):
    def pixels(self, rows: Any) -> Tensor:
        return super().pixels(rows)[:-1]


def test_shots_that_give_too_few_images_are_refused() -> None:
    model = model_of("native")
    shots = shots_of(model)
    classes = Classes(model, Short(shots.images, shots.labels), prompts())
    with pytest.raises(DataError, match="gave 1 images for 2 rows"):
        classes.images([0, 1])


def test_a_model_without_an_image_tower_is_refused() -> None:
    with pytest.raises(TowerError, match="Linear has no encode_image"):
        Classes(nn.Linear(1, 1), shots_of(model_of("native")), prompts())
