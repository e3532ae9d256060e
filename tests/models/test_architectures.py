"""Architectures by name: overrides that merge, sizes, and errors that name cause and cure."""

import json
import logging
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from patchclip.errors import CheckpointError, ConfigError, TowerError
from patchclip.models.architectures import (
    CONFIG,
    OURS,
    WEIGHTS,
    checkpoint_folder,
    configuration,
    create,
    list_models,
    merge,
    summary,
    weights_file,
    write_config,
)
from tests.models._tiny import NATIVE, TEXT, TINY, build, pictures, timm_tower


def test_sections_are_merged_not_replaced() -> None:
    base = {"embed_dim": 8, "vision_cfg": {"layers": 12, "width": 64, "norm_kwargs": {"eps": 1e-6}}}
    merged = merge(base, {"vision_cfg": {"layers": 2, "norm_kwargs": {"bias": False}}, "quick_gelu": True})
    assert merged == {
        "embed_dim": 8,
        "vision_cfg": {"layers": 2, "width": 64, "norm_kwargs": {"eps": 1e-6, "bias": False}},
        "quick_gelu": True,
    }
    assert base["vision_cfg"] == {"layers": 12, "width": 64, "norm_kwargs": {"eps": 1e-6}}
    merged["vision_cfg"]["norm_kwargs"]["eps"] = 1
    assert base["vision_cfg"]["norm_kwargs"] == {"eps": 1e-6}


def test_an_override_keeps_the_rest_of_its_section() -> None:
    architecture = create("ViT-Ti-16", overrides={"vision_cfg": {"layers": 1}, "text_cfg": {"layers": 1}})
    visual = architecture.model.visual
    assert len(visual.transformer.resblocks) == 1
    assert visual.conv1.weight.shape == (192, 3, 16, 16)
    assert architecture.model_cfg["vision_cfg"]["width"] == 192
    assert architecture.model_cfg["embed_dim"] == 192
    assert configuration("ViT-Ti-16")["vision_cfg"]["layers"] == 12, (
        "the registered configuration was changed"
    )


def test_sizes_reach_model_tokenizer_and_preprocessing() -> None:
    architecture = create(
        "ViT-Ti-16", image_size=64, context_length=9, overrides={"vision_cfg": {"layers": 1}}
    )
    assert architecture.image_size == 64
    assert tuple(architecture.preprocess_cfg["size"]) == (64, 64)
    assert architecture.model.visual.positional_embedding.shape == (17, 192)
    assert architecture.tokenizer(["a dog"]).shape == (1, 9)
    assert architecture.model.encode_text(architecture.tokenizer(["a dog"])).shape == (1, 192)
    assert architecture.model_cfg["vision_cfg"]["image_size"] == 64
    assert architecture.model_cfg["text_cfg"]["context_length"] == 9


def test_a_context_length_of_an_override_reaches_the_tokenizer() -> None:
    assert build().tokenizer(["a", "b"]).shape == (2, 16)


def test_a_timm_tower_keeps_its_size() -> None:
    with pytest.raises(TowerError, match=r"image_size=112.*eva02_base_patch16_clip_224.*224"):
        create("EVA02-B-16", image_size=112)
    assert create("EVA02-B-16", image_size=160, overrides=timm_tower("test_vit", 160)).image_size == 160


def test_random_weights_follow_torch_s_seed() -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(create("ViT-Ti-16", overrides=TINY).model.visual.conv1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_random_weights_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        create("ViT-Ti-16", overrides=TINY)
    assert caplog.records == []


@pytest.mark.parametrize("name, nearest", [("ViT-Ti-61", "ViT-Ti-16"), ("Vit-B-16", "ViT-B-16")])
def test_an_unknown_name_gets_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is unknown; nearest: .*{nearest}"):
        create(name)


@pytest.mark.parametrize(
    "overrides, named",
    [
        ({"vision_cfg": {"layerz": 2}}, "layerz"),
        ({"text_cfg": {"widht": 2}}, "widht"),
        ({"embed_dimm": 2}, "embed_dimm"),
        ({"vision": {"layers": 2}}, "vision"),
    ],
)
def test_an_unknown_key_is_named(overrides: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"key does not exist.*'{named}'.*model.overrides"):
        create("ViT-Ti-16", overrides=overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        {"vision_cfg": {"layers": "six"}},
        {"vision_cfg": 6},
        {"vision_cfg": {**NATIVE, "width": 65}},
        {"vision_cfg": {**NATIVE, "head_width": 128}},
        {"vision_cfg": {**NATIVE, "patch_size": 0}},
        {"vision_cfg": {**NATIVE, "pool_type": "mean"}},
        {"text_cfg": {**TEXT, "heads": 3}},
    ],
    ids=str,
)
def test_an_impossible_value_is_a_configuration_error(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"ViT-Ti-16 cannot be built .*model.overrides"):
        create("ViT-Ti-16", overrides=overrides)


def test_an_unknown_timm_tower_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no_such_tower"):
        create("EVA02-B-16", overrides=timm_tower("no_such_tower", 224))


def test_weights_come_from_files_and_folders(tmp_path: Path) -> None:
    source = build(seed=3)
    state = source.model.state_dict()
    torch.save(state, tmp_path / "weights.pt")
    save_file(state, tmp_path / "weights.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(state, folder / WEIGHTS)
    write_config(folder, source)
    for place in ("weights.pt", "weights.safetensors", "folder"):
        model = create("ViT-Ti-16", pretrained=str(tmp_path / place), overrides=TINY).model
        for name, value in model.state_dict().items():
            assert torch.equal(value, state[name]), (place, name)


def test_position_embeddings_are_resized_to_a_new_image_size(tmp_path: Path) -> None:
    source = build()
    save_file(source.model.state_dict(), tmp_path / "weights.safetensors")
    found = create(
        "ViT-Ti-16", pretrained=str(tmp_path / "weights.safetensors"), image_size=48, overrides=TINY
    )
    assert found.model.visual.positional_embedding.shape == (37, 64)
    assert torch.equal(found.model.visual.conv1.weight, source.model.visual.conv1.weight)
    assert found.model.encode_image(pictures(found)).shape == (2, 32)


def test_write_config_writes_what_open_clip_reads(tmp_path: Path) -> None:
    architecture = build()
    write_config(tmp_path, architecture)
    content = json.loads((tmp_path / CONFIG).read_text())
    assert set(content) == {"model_cfg", "preprocess_cfg"}
    assert content["model_cfg"] == {**configuration("ViT-Ti-16"), **TINY}
    assert open_clip.get_model_config(f"local-dir:{tmp_path}") == architecture.model_cfg


def test_the_newest_checkpoint_of_a_run_is_found(tmp_path: Path) -> None:
    def fill(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / CONFIG).touch()
        (folder / WEIGHTS).touch()
        return folder

    newest = fill(tmp_path / "checkpoints" / "step-00000200")
    fill(tmp_path / "checkpoints" / "step-00000100")
    (tmp_path / "checkpoints" / "latest").write_text("step-00000200\n")
    assert checkpoint_folder(tmp_path) == newest
    assert weights_file("ViT-Ti-16", str(tmp_path)) == str(newest / WEIGHTS)
    final = fill(tmp_path / "model")
    assert checkpoint_folder(tmp_path) == final
    assert checkpoint_folder(final) == final
    assert weights_file("ViT-B-32", "openai") == "openai"
    assert weights_file("ViT-B-32", None) is None


@pytest.mark.parametrize("present", [[], [CONFIG], [WEIGHTS]])
def test_an_incomplete_folder_says_what_it_needs(tmp_path: Path, present: list[str]) -> None:
    for name in present:
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=f"holds no checkpoint.*{CONFIG} and {WEIGHTS}"):
        checkpoint_folder(tmp_path)


def test_our_architectures_come_first_and_every_one_has_a_summary() -> None:
    models = list_models()
    names = [name for name, _, _ in models]
    assert set(names[: len(OURS)]) == OURS >= {"ViT-Ti-16"}
    assert set(names) == set(open_clip.list_models())
    assert len(names) == len(set(names))
    assert all(text and source in ("patchclip", "open_clip") for _, text, source in models)
    assert [source for _, _, source in models] == ["patchclip"] * len(OURS) + ["open_clip"] * (
        len(names) - len(OURS)
    )


def test_a_summary_tells_towers_sizes_and_width() -> None:
    assert (
        summary(configuration("ViT-Ti-16"))
        == "image 12 x 192, patch 16, 112 px; text 6 x 192, 32 tokens; 192-d"
    )
    assert "timm eva02_base_patch16_clip_224" in summary(configuration("EVA02-B-16"))
    assert "image 3-4-6-3 x 64" in summary(configuration("RN50"))


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_configurations_build(name: str) -> None:
    config = configuration(name)
    model = create(name, overrides={"vision_cfg": {"layers": 1}, "text_cfg": {"layers": 1}}).model
    side = config["vision_cfg"]["image_size"] // config["vision_cfg"]["patch_size"]
    assert model.visual.grid_size == (side, side)
    assert config["vision_cfg"]["image_size"] % config["vision_cfg"]["patch_size"] == 0


def test_a_misspelt_tag_is_answered_with_the_nearest() -> None:
    with pytest.raises(CheckpointError, match="tag of ViT-B-32: did you mean 'openai'"):
        create("ViT-B-32", pretrained="opnai")


@pytest.mark.parametrize(
    ("name", "tag", "quick"),
    [
        ("ViT-B-32", "openai", True),
        ("ViT-B-32", "laion2b_s34b_b79k", False),
        ("ViT-B-32-quickgelu", "openai", True),
        ("ViT-B-32-quickgelu", "metaclip_400m", True),
        ("ViT-B-32", None, False),
        ("ViT-B-32-quickgelu", None, True),
    ],
)
def test_published_weights_get_the_activation_that_they_were_trained_with(
    name: str, tag: str | None, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *args, **kwargs: "weights")
    monkeypatch.setattr(open_clip.factory, "load_checkpoint", lambda *args, **kwargs: None)
    small = {"vision_cfg": {"layers": 1, "width": 64}, "text_cfg": {"layers": 1, "width": 64, "heads": 1}}
    made = create(name, pretrained=tag, overrides=small)
    assert bool(made.model_cfg.get("quick_gelu", False)) == quick
    kinds = {type(module).__name__ for module in made.model.modules() if "GELU" in type(module).__name__}
    assert kinds == {"QuickGELU" if quick else "GELU"}
