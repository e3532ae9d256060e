"""Where an adaptation may write: never over what it did not write itself."""

from pathlib import Path

import pytest

from patchclip.engine.adapting.folder import check_folder, clear_others
from patchclip.engine.adapting.result import Adaptation, Row
from patchclip.engine.adapting.run import adapt
from patchclip.engine.adapting.saved import write_result
from patchclip.engine.adapting.settings import Settings
from patchclip.errors import ConfigError
from tests.models._tiny import encoder


def adapted(folder: Path) -> Path:
    rows = (Row("accuracy", (0.5,), (0.6,)),)
    write_result(Adaptation("towers", "clipood", "tiny", "colours", {}, rows, ({"seed": 0},)), folder)
    return folder


@pytest.mark.parametrize("part", ["config.yaml", "checkpoints"])
def test_the_folder_of_a_run_is_refused(part: str, tmp_path: Path) -> None:
    adapted(tmp_path)  # even where an adaptation was written there before this was checked
    (tmp_path / part).mkdir()
    with pytest.raises(ConfigError, match=f"folder of a run .it holds {part}.*{tmp_path.name}.*adapted"):
        check_folder(tmp_path)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "inside" / "it"):
        with pytest.raises(ConfigError, match=r"cannot be made a folder: .*file is a file"):
            check_folder(path)


@pytest.mark.parametrize("name", ["model", "adapter.json", "map.safetensors", "result.json", "report.html"])
def test_files_of_another_origin_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=f"holds {name}, which an adaptation would replace"):
        check_folder(tmp_path)


def test_new_empty_and_earlier_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b", "ViT-B-32:a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "notes.txt").write_text("mine")
    check_folder(tmp_path)
    (tmp_path / "model").mkdir()
    check_folder(adapted(tmp_path))


def test_the_model_that_is_adapted_is_not_replaced(tmp_path: Path) -> None:
    model = adapted(tmp_path) / "model"
    model.mkdir()
    for name in (str(tmp_path), str(model), f"ViT-B-32:{model / 'open_clip_model.safetensors'}"):
        with pytest.raises(ConfigError, match="holds the model that is adapted"):
            check_folder(tmp_path, name)
    check_folder(tmp_path, "ViT-B-32:openai")
    check_folder(tmp_path / "again", str(model))


def test_what_the_new_kind_does_not_write_goes(tmp_path: Path) -> None:
    for name in ("adapter.json", "adapter.safetensors", "map.safetensors", "report.html", "mine.json"):
        (adapted(tmp_path) / name).write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("x")
    clear_others(tmp_path, "captions")
    assert {path.name for path in tmp_path.iterdir()} == {
        "model",
        "map.safetensors",
        "result.json",
        "mine.json",
    }
    clear_others(tmp_path, "adapter")
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "mine.json"}


def test_the_folder_is_checked_before_the_data_is_opened(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="folder of a run"):
        adapt(encoder(), "no such set", "gda", Settings(data_root=tmp_path), output=tmp_path)
