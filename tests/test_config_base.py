"""Recipes on top of others: what is merged, what is replaced, and which chains are refused."""

import logging
from pathlib import Path

import pytest
import yaml

from patchclip import config
from patchclip.config import config_to_dict, load_config, save_config
from patchclip.errors import ConfigError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_a_file_is_merged_over_its_base_key_by_key(tmp_path: Path) -> None:
    write(tmp_path, "low.yaml", "train: {epochs: 3, seed: 1}\noptim: {lr: 1e-4}\n")
    over = write(tmp_path, "over.yaml", "base: low.yaml\ntrain: {epochs: 4}\n")
    loaded = load_config(over)
    assert (loaded.train.epochs, loaded.train.seed, loaded.optim.lr) == (4, 1, 1e-4)
    assert load_config(over, ["train.epochs=5"]).train.epochs == 5


def test_bases_have_bases_and_the_nearest_file_wins(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "train: {epochs: 1, seed: 1, ema: 0.1}\n")
    write(tmp_path, "b.yaml", "base: a\ntrain: {epochs: 2, seed: 2}\n")
    write(tmp_path, "c.yaml", "base: ./b.yaml\ntrain: {epochs: 3}\n")
    train = load_config(tmp_path / "c.yaml").train
    assert (train.epochs, train.seed, train.ema) == (3, 2, 0.1)


def test_nested_mappings_are_merged_lists_and_nulls_are_not(tmp_path: Path) -> None:
    low = "model: {image_size: 96, overrides: {vision_cfg: {width: 64, layers: 2}}}\ndata: {pairs: [a, b]}\n"
    write(tmp_path, "low.yaml", low)
    text = "base: low\nmodel: {image_size: null, overrides: {vision_cfg: {layers: 3}}}\ndata: {pairs: [c]}\n"
    loaded = load_config(write(tmp_path, "over.yaml", text))
    assert loaded.model.overrides == {"vision_cfg": {"width": 64, "layers": 3}}
    assert loaded.model.image_size is None
    assert loaded.data.pairs == ["c"]


def test_a_base_lies_beside_its_file_or_is_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "elsewhere/low.yaml", "train: {epochs: 7}\n")
    over = write(tmp_path, "elsewhere/over.yaml", "base: low\n")
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "low.yaml", "train: {epochs: 9}\n")
    assert load_config(over).train.epochs == 7
    mine = write(tmp_path, "demo.yaml", "base: demo\ntrain: {epochs: 2}\n")
    assert load_config(mine).model == load_config("demo").model
    assert load_config(mine).train.epochs == 2


def test_another_method_starts_without_the_options_of_the_base(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "low.yaml", "masking: {name: pgs, mask_ratio: 0.4, protect: 0.2}\n")
    other = write(tmp_path, "other.yaml", "base: low\nmasking: {name: random}\n")
    same = write(tmp_path, "same.yaml", "base: low\nmasking: {name: pgs, mask_ratio: 0.3}\n")
    options = write(tmp_path, "options.yaml", "base: low\nmasking: {mask_ratio: 0.3}\n")
    with caplog.at_level(logging.WARNING, "patchclip"):
        assert load_config(other).masking == {"name": "random"}
        for path in (same, options):
            assert load_config(path).masking == {"name": "pgs", "mask_ratio": 0.3, "protect": 0.2}
    assert caplog.text == ""


def test_a_base_without_a_name_has_the_default_method(tmp_path: Path) -> None:
    assert config.TrainConfig().masking == {"name": "pgs"}
    write(tmp_path, "low.yaml", "masking: {protect: 0.2}\nstability: {max_norm: 2.0, clip: norm}\n")
    same = write(tmp_path, "same.yaml", "base: low\nmasking: {name: pgs}\nstability: {clip: none}\n")
    assert load_config(same).masking == {"name": "pgs", "protect": 0.2}
    assert load_config(same).stability == {"clip": "none"}


def test_the_resolved_configuration_is_flat_and_complete(tmp_path: Path) -> None:
    write(tmp_path, "low.yaml", "train: {epochs: 3}\n")
    loaded = load_config(write(tmp_path, "over.yaml", "base: low\ntrain: {seed: 5}\n"))
    save_config(loaded, tmp_path / "run" / "config.yaml")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))
    assert "base" not in written
    assert written == config_to_dict(loaded)
    assert load_config(tmp_path / "run" / "config.yaml") == loaded


def test_circles_are_named_from_the_first_file_on(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "base: b\n")
    write(tmp_path, "b.yaml", "base: c.yaml\n")
    write(tmp_path, "c.yaml", "base: b.yaml\n")
    with pytest.raises(
        ConfigError, match=r"must not lead back.*a\.yaml -> .*b\.yaml -> .*c\.yaml -> .*b\.yaml"
    ):
        load_config(tmp_path / "a.yaml")
    itself = write(tmp_path, "self.yaml", "base: ../" + tmp_path.name + "/self.yaml\n")
    with pytest.raises(ConfigError, match="must not lead back"):
        load_config(itself)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("dmeo", r"no base 'dmeo'.*a\.yaml -> .*b\.yaml -> dmeo.*did you mean 'demo'"),
        (
            "nowhere/x.yaml",
            r"there is no base 'nowhere/x.yaml': name a shipped recipe, or a YAML file beside",
        ),
        ("''", r"b\.yaml: base='' must be the name"),
        ("null", r"b\.yaml: base=None must be the name"),
        ("[a, b]", r"b\.yaml: base=\['a', 'b'\] must be the name"),
    ],
)
def test_wrong_bases(tmp_path: Path, base: str, message: str) -> None:
    write(tmp_path, "b.yaml", f"base: {base}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, "a.yaml", "base: b\n"))


def test_a_wrong_key_is_laid_at_the_door_of_its_file(tmp_path: Path) -> None:
    write(tmp_path, "low.yaml", "train: {epoch: 3}\n")
    with pytest.raises(ConfigError, match=r"low\.yaml: unknown key 'train.epoch'"):
        load_config(write(tmp_path, "over.yaml", "base: low\ntrain: {seed: 5}\n"))
    with pytest.raises(ConfigError, match="unknown key 'base'"):
        load_config("demo", ["base=demo"])
