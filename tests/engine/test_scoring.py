"""Runs that train for distances: what they write, how it is loaded, evaluated and gone on with."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from patchclip.engine.assemble import assemble
from patchclip.engine.ranks.distributed import World
from patchclip.engine.scoring import scored
from patchclip.engine.train import StepInfo, train
from patchclip.errors import ConfigError, Interrupted
from patchclip.evaluation._runner import evaluate
from patchclip.models.architectures import create
from patchclip.models.similarity import Cosine, Lifted
from patchclip.models.towers import load
from tests.engine._tiny import aligned, random_batch, tiny, write_colours_set, write_pairs

CPU = torch.device("cpu")
SHORT: dict[str, Any] = {"masking": {"name": "none"}, "checkpoint": {"every": 2}}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar")


@pytest.fixture(scope="module")
def run(pairs: Path) -> Path:
    """Three steps for EuCLIP, with entailment, evaluated at the end."""
    root = write_colours_set(pairs.parent / "sets")
    output = pairs.parent / "run"
    chosen = {"name": "euclip", "entailment_weight": 0.1}
    validation = {"root": str(root), "datasets": ["colours"], "suites": ["classification"]}
    train(tiny(pairs, output, loss=chosen, eval=validation, train={"max_steps": 3}, **SHORT))
    return output


def raw(model: Any, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.encode_image(pixels), model.encode_text(tokens)


def test_the_model_is_loaded_and_scored_by_distance(run: Path) -> None:
    found = load(run, device="cpu")
    assert found.similarity == Lifted("euclidean_squared", 32**-0.5, 32**-0.5)
    pixels, tokens = random_batch(5)
    image, text = raw(found.model, pixels, tokens)
    far = torch.cdist(image, text).square() / 32
    torch.testing.assert_close(
        found.encode_image(pixels) @ found.encode_text(tokens).T, -far, rtol=1e-4, atol=1e-5
    )


def test_evaluation_takes_the_nearest_by_distance(run: Path, pairs: Path) -> None:
    root = pairs.parent / "sets"
    [result] = evaluate(str(run), "classification", root, ["colours"])
    [after] = (json.loads(path.read_text()) for path in (run / "eval").glob("*colours*.json"))
    assert after["metrics"] == pytest.approx(result.metrics)
    [cosine] = evaluate(load(run, device="cpu").unit(), "classification", root, ["colours"])
    assert cosine.metrics["ece"] != result.metrics["ece"]


def test_plain_open_clip_loads_the_folder(run: Path) -> None:
    for folder in (run / "model", *(run / "checkpoints").glob("step-*")):
        model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
        assert (folder / "similarity.json").is_file()
    pixels, tokens = random_batch(3)
    found = raw(load(run, device="cpu").model, pixels, tokens)
    model = open_clip.create_model(f"local-dir:{run / 'model'}", require_pretrained=True).eval()
    for ours, theirs in zip(found, raw(model, pixels, tokens), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_scale_starts_low_and_is_held_at_one(run: Path, pairs: Path) -> None:
    config = tiny(pairs, run.parent / "unused", loss={"name": "euclip", "entailment_weight": 0.1}, **SHORT)
    started = assemble(config, World(), CPU).model.logit_scale.exp().item()
    assert started == pytest.approx(math.exp(-1))
    assert load(run, device="cpu").scale >= 1  # as in the released code, from the first update on


def stopped(info: StepInfo) -> None:
    """As Ctrl-C does."""
    if info.step == 2:
        os.kill(os.getpid(), signal.SIGINT)


def test_what_was_learnt_is_written_and_gone_on_with(pairs: Path, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"loss": {"name": "euclip", "metric": "hyperbolic"}, "train": {"max_steps": 4}}
    with pytest.raises(Interrupted):
        train(tiny(pairs, tmp_path / "run", **chosen, **SHORT), on_step=stopped)
    halfway = load(tmp_path / "run", device="cpu").similarity
    train(tiny(pairs, tmp_path / "run", **chosen, **SHORT), resume=True)
    train(tiny(pairs, tmp_path / "other", **chosen, **SHORT))
    found = load(tmp_path / "run", device="cpu").similarity
    assert isinstance(found, Lifted)
    assert found == load(tmp_path / "other", device="cpu").similarity
    assert found != halfway
    assert found.metric == "hyperbolic"
    assert found.image_scale != found.text_scale
    state = torch.load(tmp_path / "run/checkpoints/step-00000004/training_state.pt", weights_only=True)
    learnt = {name: math.exp(value.item()) for name, value in state["loss"].items()}
    assert learnt["log_curvature"] == pytest.approx(found.curvature)
    assert learnt["log_curvature"] != 1
    assert learnt["log_image"] * 32**-0.5 == pytest.approx(found.image_scale)


def test_a_run_for_cosines_writes_no_similarity(pairs: Path, tmp_path: Path, run: Path) -> None:
    start = {"name": str(run)}
    train(tiny(pairs, tmp_path / "run", model={**start, "overrides": {}}, train={"max_steps": 1}, **SHORT))
    assert not list((tmp_path / "run").rglob("similarity.json"))
    assert load(tmp_path / "run", device="cpu").similarity == Cosine()
    assert load(run, device="cpu").similarity != Cosine()


def test_the_frozen_model_of_a_head_keeps_its_similarity(pairs: Path, tmp_path: Path, run: Path) -> None:
    for model in ({"name": str(run), "overrides": {}}, {"pretrained": str(run)}):
        config = aligned(pairs, tmp_path / "head", model=model)
        parts = assemble(config, World(), CPU)
        assert scored(parts).similarity == Lifted("euclidean_squared", 32**-0.5, 32**-0.5)
    assert create("ViT-Ti-16").similarity == Cosine()


def test_averaged_towers_are_not_scored_by_what_was_not_averaged(pairs: Path, tmp_path: Path) -> None:
    learnt: dict[str, Any] = {"loss": {"name": "euclip", "metric": "hyperbolic"}}
    with pytest.raises(ConfigError, match=r"log_curvature.* set train\.ema=0"):
        train(tiny(pairs, tmp_path / "run", **learnt, train={"ema": 0.9}, **SHORT))
    assert not (tmp_path / "run").exists()


def test_micro_batches_have_the_gradients_of_the_whole_batch(pairs: Path, tmp_path: Path) -> None:
    found = []
    for size in (None, 4):
        loss = {"name": "euclip", "metric": "hyperbolic", "entailment_weight": 0.2}
        parts = assemble(
            tiny(pairs, tmp_path, loss=loss, train={"micro_batch": size}, masking={"name": "none"}),
            World(),
            CPU,
        )
        parts.gradients(*random_batch(8), (0, 0, 0), lambda value: value)
        found.append({name: parameter.grad for name, parameter in parts.learnt})
    assert {"loss.log_curvature", "loss.log_image", "loss.log_text"} <= found[0].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)
