"""Stages: small images and short captions first, in one run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchclip.config import StageConfig, TrainConfig, config_from_dict, config_to_dict
from patchclip.engine.records.tracking import read_metrics
from patchclip.engine.stages import stage_at, stages_of
from patchclip.engine.step import Towers
from patchclip.engine.train import train
from patchclip.errors import ConfigError
from tests.engine._tiny import tiny

STAGES = [
    {"until": 0.5, "image_size": 16, "text_tokens": 6},
    {"until": 0.75, "image_size": 24, "text_tokens": None},
    {"until": 1.0, "image_size": None, "text_tokens": None},
]


def staged(stages: list[dict[str, Any]]) -> TrainConfig:
    return config_from_dict({"train": {"stages": stages}})


def test_sizes_that_are_not_named_are_the_runs_own() -> None:
    config = config_from_dict(
        {
            "model": {"image_size": 112},
            "data": {"text_tokens": 12},
            "train": {"stages": [{"until": 0.9, "image_size": 64}, {"until": 1.0, "text_tokens": 16}]},
        }
    )
    assert stages_of(config) == [StageConfig(0.9, 64, 12), StageConfig(1.0, 112, 16)]
    assert [stage_at(config, step, 1000).image_size for step in (0, 899, 900, 999)] == [64, 64, 112, 112]


def test_a_run_without_stages_is_one() -> None:
    assert stages_of(TrainConfig()) == [StageConfig(1.0, None, None)]


@pytest.mark.parametrize(
    "stages, message",
    [
        ([{"until": 0.5}], "until=\\[0.5\\] must rise"),
        ([{"until": 0.0}, {"until": 1.0}], "must rise from above 0 to 1"),
        ([{"until": 0.7}, {"until": 0.6}, {"until": 1.0}], "must rise"),
        ([{"until": 0.5}, {"until": 0.5}, {"until": 1.0}], "must rise"),
        ([{"until": 1.0, "image_size": 0}], "image_size=0 must be at least 1"),
        ([{"until": 1.0, "text_tokens": -2}], "text_tokens=-2 must be at least 1"),
        ([{"until": 1.0, "image_sise": 64}], "image_sise"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        staged(stages)


def test_stages_survive_being_written_down() -> None:
    config = staged(STAGES)
    assert config_from_dict(config_to_dict(config)) == config
    assert config_to_dict(config)["train"]["stages"] == STAGES


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(image side, text tokens) of every forward."""
    seen: list[tuple[int, int]] = []
    plain = Towers.forward

    def forward(self: nn.Module, pixels: Tensor, tokens: Tensor) -> Any:
        seen.append((pixels.shape[-1], tokens.shape[-1]))
        return plain(self, pixels, tokens)

    monkeypatch.setattr(Towers, "forward", forward)
    return seen


@pytest.mark.parametrize("masking", ["none", "random"])
def test_training_goes_through_its_stages(
    masking: str, pairs: Path, tmp_path: Path, shapes: list[tuple[int, int]]
) -> None:
    loop = {"max_steps": 8, "stages": STAGES}
    result = train(tiny(pairs, tmp_path / "run", masking={"name": masking}, train=loop))
    assert result.status == "done"
    steps = shapes[1:]  # the first is the rehearsal
    assert shapes[0] == (16, 6)
    assert steps == [(16, 6)] * 4 + [(24, 16)] * 2 + [(32, 16)] * 2
    losses = [line["loss"] for line in read_metrics(result.run) if line["kind"] == "train"]
    assert all(torch.isfinite(torch.tensor(losses)))


def test_a_model_held_to_what_it_was_goes_through_stages_too(pairs: Path, tmp_path: Path) -> None:
    before = train(tiny(pairs, tmp_path / "before", masking={"name": "none"}, train={"max_steps": 1}))
    held = {"loss": {"name": "refine"}, "model": {"pretrained": str(before.run)}, "masking": {"name": "none"}}
    result = train(tiny(pairs, tmp_path / "run", **held, train={"max_steps": 4, "stages": STAGES}))
    assert result.status == "done"


def test_a_run_resumed_in_a_later_stage_is_the_unbroken_one(pairs: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(info: Any) -> None:
        if info.step == 6:
            raise Stopped

    loop = {"max_steps": 8, "stages": STAGES}
    whole = train(tiny(pairs, tmp_path / "whole", masking={"name": "pgs"}, train=loop))
    broken = tiny(pairs, tmp_path / "broken", masking={"name": "pgs"}, train=loop)
    broken.checkpoint.every = 5
    with pytest.raises(Stopped):
        train(broken, on_step=stop)
    again = train(broken, resume=True)
    losses = [
        {line["step"]: line["loss"] for line in read_metrics(run) if line["kind"] == "train"}
        for run in (whole.run, again.run)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("size, cure", [(12, "use 16"), (3, "use 8"), (20, "use 16")])
def test_a_stage_of_broken_patches_is_refused(size: int, cure: str, pairs: Path, tmp_path: Path) -> None:
    stages = [{"until": 0.5, "image_size": size}, {"until": 1.0}]
    config = tiny(pairs, tmp_path / "run", masking={"name": "none"}, train={"max_steps": 2, "stages": stages})
    with pytest.raises(
        ConfigError, match=f"image_size={size} is not a whole number of patches of 8 px: {cure}"
    ):
        train(config)


def test_a_stage_larger_than_the_model_is_refused(pairs: Path, tmp_path: Path) -> None:
    stages = [{"until": 0.5, "image_size": 64}, {"until": 1.0}]
    config = tiny(pairs, tmp_path / "run", masking={"name": "none"}, train={"max_steps": 2, "stages": stages})
    with pytest.raises(
        ConfigError, match=r"image_size=64 is larger than the model's 32: set model.image_size=64"
    ):
        train(config)
