"""Longer contexts in training: the model, its folder, the kept positions, the plan."""

import signal
from pathlib import Path

import open_clip
import pytest
import torch

from patchclip.config import load_config
from patchclip.engine.planning.plan import plan
from patchclip.engine.train import train
from patchclip.errors import ConfigError, Interrupted
from patchclip.models.towers import load
from tests.engine._tiny import write_pairs

LONG = ("context.name=long_clip", "context.kept=4", "context.factor=3")


def settings(tmp_path: Path, *more: str) -> list[str]:
    pairs = tmp_path / "pairs.tar"
    if not pairs.exists():
        write_pairs(pairs)
    return [
        f"data.pairs={pairs}",
        *("train.batch_size=6", "train.device=cpu", "train.max_steps=2", "optim.warmup_steps=0"),
        *("model.image_size=32", "model.context_length=8", "masking.name=none", "eval.datasets=[]"),
        *("optim.weight_decay=0.5", "tracking.tensorboard=false"),
        "model.overrides={embed_dim: 32, vision_cfg: {layers: 1, width: 64, patch_size: 8, head_width: 32}, "
        "text_cfg: {layers: 1, width: 32, heads: 2}}",
        f"output={tmp_path / 'run'}",
        *more,
    ]


def test_a_run_leaves_a_plain_model_of_the_longer_context_with_its_first_positions_kept(
    tmp_path: Path,
) -> None:
    plain = train(load_config(None, settings(tmp_path, f"output={tmp_path / 'short'}", "train.max_steps=1")))
    before = load(plain.run).model.positional_embedding
    config = load_config(None, settings(tmp_path, *LONG, f"model.pretrained={plain.run}"))
    with pytest.raises(Interrupted):
        train(config, on_step=lambda info: signal.raise_signal(signal.SIGTERM))
    train(config, resume=True)
    after = load(tmp_path / "run").model.positional_embedding
    assert after.shape[0] == 4 + 3 * 4
    assert torch.equal(after[:4], before[:4])
    assert (after[4] != before[4]).any()
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'run' / 'model'}")
    assert model.context_length == 16
    assert open_clip.get_tokenizer(f"local-dir:{tmp_path / 'run' / 'model'}").context_length == 16


def test_windows_are_for_reading_only(tmp_path: Path) -> None:
    config = load_config(None, settings(tmp_path, "context.name=clipmd"))
    with pytest.raises(ConfigError, match="evaluate with --context clipmd"):
        train(config)


def test_a_plan_reads_the_longer_captions(tmp_path: Path) -> None:
    short = plan(load_config(None, settings(tmp_path)), 1)
    long = plan(load_config(None, settings(tmp_path, *LONG)), 1)
    assert (short.stretches[0].words, long.stretches[0].words) == (8, 16)
    assert long.flops_per_pair > short.flops_per_pair
