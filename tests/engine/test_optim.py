"""Weight-decay groups and learning rate are open_clip's."""

import math

import pytest
import torch
from torch import nn

from patchclip.engine.optim import adamw, decays, lr_at, set_lr
from patchclip.models.architectures import create
from tests.engine._tiny import architecture

BLOCK_MATRICES = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
OUTER_MATRICES = {
    "positional_embedding",
    "text_projection",
    "token_embedding.weight",
    "visual.positional_embedding",
    "visual.proj",
    "visual.conv1.weight",
}


def expected_to_decay(vision_layers: int, text_layers: int) -> set[str]:
    """Every matrix of an open_clip ViT pair; gains, biases, the class token and the temperature are left."""
    blocks = [f"visual.transformer.resblocks.{i}." for i in range(vision_layers)]
    blocks += [f"transformer.resblocks.{i}." for i in range(text_layers)]
    return OUTER_MATRICES | {block + matrix for block in blocks for matrix in BLOCK_MATRICES}


def test_the_groups_of_vit_ti_16_name_by_name() -> None:
    made = create("ViT-Ti-16")
    layers = made.model_cfg["vision_cfg"]["layers"], made.model_cfg["text_cfg"]["layers"]
    named = dict(made.model.named_parameters())
    assert {name for name, p in named.items() if decays(name, p)} == expected_to_decay(*layers)
    optimizer = adamw(made.model, 1e-3, (0.9, 0.98), 1e-6, 0.2)
    names = {id(p): name for name, p in named.items()}
    still, decayed = ([names[id(p)] for p in group["params"]] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.2]
    assert set(decayed) == expected_to_decay(*layers)
    assert set(still) == set(named) - expected_to_decay(*layers)
    assert len(still) + len(decayed) == len(named)


def test_open_clips_expression_gives_the_same_groups() -> None:
    def exclude(n: str, p: nn.Parameter) -> bool:  # open_clip_train/main.py, word for word
        return p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n

    resnet = {"layers": [1, 1, 1, 1], "width": 8, "patch_size": None, "image_size": 32}
    models = [architecture(init_logit_bias=-10.0).model, architecture(vision_cfg=resnet).model]
    models.append(nn.ModuleDict({"bn": nn.Linear(2, 2), "vln": nn.Linear(2, 2), "x": nn.Linear(2, 2)}))
    for model in models:
        for name, parameter in model.named_parameters():
            assert decays(name, parameter) is not exclude(name, parameter), name


def test_frozen_parameters_are_left_out_and_decay_acts() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    before = model.weight.detach().clone()
    optimizer = adamw(model, 0.1, (0.9, 0.98), 1e-6, 0.2)
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 1]
    model.weight.grad = torch.zeros_like(model.weight)
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.1 * 0.2))


def test_found_inf_skips_the_update_and_its_count() -> None:
    model = nn.Linear(2, 2)
    optimizer = adamw(model, 0.1, (0.9, 0.98), 1e-6, 0.2)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.full_like(p, torch.nan)
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert {float(state["step"]) for state in optimizer.state.values()} == {0.0}
    assert all(torch.isfinite(state["exp_avg"]).all() for state in optimizer.state.values())


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.25),  # warm-up: peak * (step + 1) / 4
        (1, 0.5),
        (3, 1.0),
        (4, 1.0),  # the cosine starts at its top
        (4 + 4, 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2),  # cos(pi / 4)
        (4 + 8, 0.55),  # half of the way
        (20, 0.1),  # the end, one step after the last
    ],
)
def test_learning_rate_by_hand(step: int, expected: float) -> None:
    assert lr_at(step, 20, 1.0, 4, 0.1) == pytest.approx(expected, rel=1e-12)


def test_learning_rate_is_open_clips() -> None:
    scheduler = pytest.importorskip("open_clip_train.scheduler")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    theirs = scheduler.cosine_lr(optimizer, 3e-4, 7, 40)
    for step in range(40):
        assert lr_at(step, 40, 3e-4, 7) == pytest.approx(theirs(step), rel=1e-12)


def test_learning_rate_without_warm_up_and_with_nothing_else() -> None:
    assert lr_at(0, 10, 2.0, 0) == 2.0
    assert [lr_at(step, 4, 2.0, 4) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert lr_at(0, 1, 2.0, 1) == 2.0
    assert all(0 < lr_at(step, 100, 1.0, 10) <= 1 for step in range(100))


def test_set_lr_reaches_every_group() -> None:
    optimizer = adamw(nn.Linear(2, 2), 0.1, (0.9, 0.98), 1e-6, 0.2)
    set_lr(optimizer, 0.025)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.025]
