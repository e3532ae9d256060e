"""Names that stay in their folder, files that are whole, and label maps and heat that read back exactly."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip.dense.files import (
    heat_picture,
    label_picture,
    make_folder,
    safe_name,
    unique_names,
    write_image,
    write_text,
)
from patchclip.dense.palette import heat_palette, voc_palette
from patchclip.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("the red mug", "the-red-mug"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "unnamed"),
        ("a/b\\c:d*e?f", "a-b-c-d-e-f"),
        ("nul\0 and\nline", "nul-and-line"),
        (" Ünïcode 猫 ", "Ünïcode-猫"),
        ("-rf", "rf"),
        ("photo.final", "photo.final"),
        ("", "unnamed"),
    ],
)
def test_names_of_labels_are_safe(text: str, name: str) -> None:
    assert safe_name(text) == name


@pytest.mark.parametrize("text", ["x" * 5000, "猫" * 5000, "a." * 5000, "é" * 41])
def test_long_names_are_cut_between_letters(text: str) -> None:
    name = safe_name(text)
    assert 70 < len(name.encode("utf-8")) <= 80
    assert text.startswith(name)


def test_the_same_name_twice_gets_a_number() -> None:
    assert unique_names(["a b", "a/b", "A-B", "a-b-2", "c"]) == ["a-b", "a-b-2", "A-B-3", "a-b-2-2", "c"]
    many = unique_names(["?"] * 20_000)
    assert len({name.casefold() for name in many}) == 20_000


def test_label_maps_read_back(tmp_path: Path) -> None:
    labels = np.arange(6).reshape(2, 3)
    path = write_image(label_picture(labels, 254), tmp_path / "labels.png")
    with Image.open(path) as read:
        assert read.mode == "P"
        assert np.asarray(read).tolist() == labels.tolist()
        assert read.convert("RGB").getpixel((1, 0)) == tuple(voc_palette()[1].tolist())
    many = labels * 50_000 // 5
    with Image.open(write_image(label_picture(many, 60_000), path)) as read:
        assert np.asarray(read).tolist() == many.tolist(), "16 bits, and the file is replaced"
    with pytest.raises(ConfigError, match="65536 labels do not fit"):
        label_picture(labels, 65536)


def test_heat_reads_back_and_shows_in_colours(tmp_path: Path) -> None:
    heat = np.array([[0.0, 0.5, 1.0]])
    with Image.open(write_image(heat_picture(heat), tmp_path / "heat.png")) as read:
        assert np.asarray(read).tolist() == [[0, 128, 255]]
        assert read.convert("RGB").getpixel((2, 0)) == tuple(heat_palette()[255].tolist())


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text("old", tmp_path / "a.json")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match=r"a\.json cannot be written \(No space left on device\)"):
        write_text("new", path)
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=r"b\.png cannot be written"):
        write_image(Image.new("RGB", (1, 1)), tmp_path / "b.png")
    assert [(file.name, file.read_text("utf-8")) for file in tmp_path.iterdir()] == [("a.json", "old")]


def test_folders(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file cannot be made a folder"):
        make_folder(tmp_path / "file")


def test_an_interrupted_file_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, *_: object, **__: object) -> None:
        next(path for path in (self, *_) if isinstance(path, Path)).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text("new", tmp_path / "a.json")
    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_image(Image.new("RGB", (1, 1)), tmp_path / "b.png")
    assert list(tmp_path.iterdir()) == []
