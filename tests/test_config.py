"""Files and overrides become a typed configuration, or an error that says where and what would do."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from patchclip import _config_file, config
from patchclip.config import TrainConfig, changed_keys, chooses, config_from_dict, config_to_dict, load_config
from patchclip.errors import ConfigError

RECIPES = sorted(path.stem for path in (Path(config.__file__).parent / "recipes").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, "utf-8")
    return path


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config() == TrainConfig()


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    loaded = load_config(write(tmp_path, "train:\n  epochs: 3\noptim:\n  lr: 5e-4\n"))
    assert (loaded.train.epochs, loaded.optim.lr) == (3, 5e-4)
    assert loaded.train.batch_size == TrainConfig().train.batch_size


def test_overrides_win_over_the_file_and_later_ones_over_earlier(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {epochs: 3, seed: 1}\n")
    loaded = load_config(path, ["train.epochs=4", "train.epochs=5"])
    assert (loaded.train.epochs, loaded.train.seed) == (5, 1)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("optim.lr=1e-4", "optim", "lr", 1e-4),
        ("optim.lr=1", "optim", "lr", 1.0),
        ("train.max_steps=null", "train", "max_steps", None),
        ("train.grad_checkpointing=true", "train", "grad_checkpointing", True),
        ("data.pairs=[a.tar, b.tar]", "data", "pairs", ["a.tar", "b.tar"]),
        ("data.pairs=s3://x/{000..010}.tar", "data", "pairs", "s3://x/{000..010}.tar"),
        ("data.pairs=a=b.csv", "data", "pairs", "a=b.csv"),
        ("eval.datasets=[]", "eval", "datasets", []),
        ("model.overrides.vision_cfg.width=192", "model", "overrides", {"vision_cfg": {"width": 192}}),
        ("tracking.wandb='5'", "tracking", "wandb", "5"),
    ],
)
def test_override_values_are_yaml(override: str, section: str, key: str, value: Any) -> None:
    assert getattr(getattr(load_config(None, [override]), section), key) == value


def test_method_options_are_free_but_checked() -> None:
    loaded = load_config(None, ["masking.name=random", "masking.mask_ratio=[0.3,0.5]"])
    assert config.method(loaded, "masking") == ("masking", "random", {"mask_ratio": [0.3, 0.5]})
    with pytest.raises(ConfigError, match="masking/random has no option 'mask_ration'; did you mean 'mask_r"):
        load_config(None, ["masking.name=random", "masking.mask_ration=0.5"])
    with pytest.raises(ConfigError, match="no 'radnom' among the maskers; did you mean 'random'"):
        load_config(None, ["masking.name=radnom"])


def test_a_new_method_drops_the_files_options_that_it_does_not_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "masking: {name: pgs, mask_ratio: 0.4, protect: 0.2}\n")
    with caplog.at_level(logging.WARNING, "patchclip"):
        loaded = load_config(path, ["masking.name=random"])
    assert loaded.masking == {"name": "random", "mask_ratio": 0.4}
    assert "masking.name=random has no option protect" in caplog.text
    with pytest.raises(ConfigError, match="masking/random has no option 'protect'"):
        load_config(path, ["masking.name=random", "masking.protect=0.2"])


def test_without_an_override_of_the_name_the_files_wrong_options_are_errors(tmp_path: Path) -> None:
    path = write(tmp_path, "masking: {name: random, protect: 0.2}\n")
    with pytest.raises(ConfigError, match="masking/random has no option 'protect'"):
        load_config(path)
    with pytest.raises(ConfigError, match="masking/random has no option 'protect'"):
        load_config(path, ["masking.name=random"])


def test_interpolation_is_resolved() -> None:
    assert load_config(None, ["output=runs/${masking.name}"]).output == "runs/pgs"
    with pytest.raises(ConfigError, match="output='runs/\\$\\{nothing\\}' cannot be used: Interpolation key"):
        load_config(None, ["output=runs/${nothing}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.epoch=3",
            r"unknown key 'train.epoch'; did you mean 'train.epochs'\? Keys of train: epochs, ",
        ),
        ("train.lr=3", r"unknown key 'train.lr'; did you mean 'optim.lr'\?"),
        ("epochs=3", r"unknown key 'epochs'; did you mean 'train.epochs'\? Keys at the top: data, model"),
        ("trian.epochs=3", r"unknown key 'trian'; did you mean 'train'\?"),
        ("zzz=3", r"unknown key 'zzz'; Keys at the top"),
        ("train=3", r"train=3 must be a section with keys"),
        ("masking={mask_ratio", r"override 'masking={mask_ratio': the value is not valid YAML"),
        ("train.epochs", r"override 'train.epochs' must read key=value, for instance train.epochs=VALUE"),
        ("--lr=3", r"override '--lr=3' must read key=value"),
        ("train.epochs=[1,", r"override 'train.epochs=\[1,': the value is not valid YAML"),
        ("train.epochs=x", r"train.epochs='x' must be int, got str"),
        ("train.epochs=1.5", r"train.epochs=1.5 must be int, got float"),
        ("train.seed=true", r"train.seed=True must be int, got bool"),
        ("train.micro_batch=x", r"train.micro_batch='x' must be int or null"),
        ("output=", r"output=None must be str"),
        ("eval.datasets=digits", r"eval.datasets='digits' must be list\[str\] or null, got str"),
        ("masking.name=null", r"masking.name=None must be a name"),
        ("stability.clip=nrom", r"no 'nrom' among the gradient clippers; did you mean 'norm'\?"),
    ],
)
def test_wrong_keys_names_and_types(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batch_size=0", "train.batch_size=0 must be at least 1"),
        ("train.micro_batch=100", "train.micro_batch=100 must divide train.batch_size=256"),
        ("train.epochs=0", "must be at least 1"),
        ("train.max_steps=0", "must be at least 1"),
        ("train.unmasked_share=1.0", r"must be in \[0, 1\)"),
        ("train.ema=1", r"train.ema=1.0 must be in \[0, 1\)"),
        ("train.ema=-0.1", r"must be in \[0, 1\)"),
        ("train.precision=fp8", "train.precision='fp8' must be one of .*fp32, bf16, fp16"),
        ("optim.lr=0", "optim.lr=0.0 must be above 0"),
        ("optim.lr=.nan", "optim.lr=nan must be above 0"),
        ("optim.lr=.inf", "optim.lr=inf must be above 0"),
        ("optim.weight_decay=.inf", "must be at least 0"),
        ("optim.min_lr=1.0", "optim.min_lr=1.0 must not exceed optim.lr=0.001"),
        ("data.pairs=[]", "data.pairs=.. must be a path"),
        ("data.pairs={a: b}", "data.pairs=.* must be a path"),
        ("data.max_bad_share=1.1", "at least 0 and at most 1"),
        ("data.caption=all", "must be one of random, first"),
        ("checkpoint.keep=0", "must be at least 1"),
        ("output=''", "output='' must not be empty"),
    ],
)
def test_wrong_values(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.yaml, line 1: the file is empty"),
        ("# only a comment\n", "run.yaml, line 1: the file is empty"),
        ("- train\n- eval\n", "run.yaml, line 1: must hold sections .*got a list"),
        ("train:\n  epochs: [1,\n", "run.yaml, line 3: this is not valid YAML"),
        ("train:\n\tepochs: 3\n", "run.yaml, line 2: this is not valid YAML"),
        ("train:\n  epochs: 3\n  epochs: 4\n", "run.yaml, line 3: .*duplicate key"),
        ("train:\n  epoch: 3\n", "run.yaml: unknown key 'train.epoch'; did you mean 'train.epochs'"),
        ("train:\n", "run.yaml: train=None must be a section"),
        ("7: 3\n", "run.yaml: unknown key '7'"),
        ("data: {pairs: !!python/object/apply:os.getcwd []}\n", "line 1: this is not valid YAML"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"run.yaml must be a YAML file of sections"):
        load_config(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, match="there is no configuration"):
        load_config(tmp_path)


@pytest.mark.parametrize("wrong", ["dmeo", "configs/dmeo.yaml"])
def test_a_missing_file_is_answered_with_the_nearest_recipe(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'demo'\? Known: .*demo"):
        load_config(wrong)


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_loads_by_name_and_by_path(name: str) -> None:
    root = Path(__file__).parents[1]
    assert load_config(name) == load_config(root / "configs" / f"{name}.yaml")
    described = {entry.name: entry for entry in _config_file.list_recipes()}
    assert described[name].summary.endswith(".")


def test_dicts_round_trip() -> None:
    loaded = load_config("demo", ["masking.mask_ratio=[0.3,0.5]", "model.overrides.text_cfg.layers=2"])
    assert config_from_dict(config_to_dict(loaded)) == loaded
    with pytest.raises(ConfigError, match="unknown key 'trian'"):
        config_from_dict({"trian": {}})


def test_saved_files_round_trip_and_appear_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_config("demo", ["data.pairs=[a, b]", "optim.eps=1e-9", "tracking.wandb='on'"])
    path = tmp_path / "deep" / "config.yaml"
    config.save_config(loaded, path)
    assert load_config(path) == loaded

    def refuse(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        config.save_config(TrainConfig(), path)
    assert load_config(path) == loaded
    assert os.listdir(path.parent) == ["config.yaml"]


def test_validate_holds_configurations_built_in_python_to_the_same_rules() -> None:
    built = TrainConfig()
    built.masking = {"name": "pgs", "mask_ratio": (0.3, 0.5)}
    config.validate(built)
    assert config_to_dict(built)["masking"]["mask_ratio"] == [0.3, 0.5]
    built.train.epochs = "many"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"train.epochs='many' must be int"):
        config.validate(built)


def test_changed_keys() -> None:
    before = config_to_dict(TrainConfig())
    after = config_to_dict(
        load_config(None, ["train.epochs=99", "masking.mask_ratio=0.4", "output=x", "eval.datasets=[a]"])
    )
    assert changed_keys(before, before) == {}
    changed = ["train.epochs", "eval.datasets", "output", "masking.mask_ratio"]
    assert list(changed_keys(before, after)) == changed
    assert changed_keys({"a": {"b": None}}, {"a": {}}) == {"a.b": (None, "unset")}


def test_every_key_has_a_line_of_help() -> None:
    docs = list(_config_file.list_keys(TrainConfig))
    assert {"train.epochs", "masking.name", "stability.clip", "output"} <= {doc.path for doc in docs}
    assert all(doc.text and len(doc.text) <= 90 for doc in docs)


def test_no_two_configurations_share_their_sections() -> None:
    first, second = TrainConfig(), TrainConfig()
    for field in dataclasses.fields(TrainConfig):
        value = getattr(first, field.name)
        assert isinstance(value, str) or value is not getattr(second, field.name)


def test_a_section_may_be_named_alone() -> None:
    spelt = [
        "model.name=ViT-B-16",
        "model.pretrained=a.safetensors",
        "data.pairs=x.tar",
        "masking.name=random",
    ]
    short = ["model=ViT-B-16", "pretrained=a.safetensors", "data=x.tar", "masking=random"]
    assert load_config(None, short) == load_config(None, spelt)
    assert load_config(None, ["masking={name: random}"]).masking == {"name": "random"}


def test_a_head_is_chosen_or_absent() -> None:
    assert load_config(None, []).head == {"name": None}
    assert not chooses(load_config(None, []), "head")
    with pytest.raises(ConfigError, match=r"head.name=null has no option hidden: name one"):
        load_config(None, ["head.hidden=3"])
