"""The documents of many pictures: nothing of an earlier call is lost or left behind without a word."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from patchclip.dense.files import LONGEST, picture_names, unique_names
from patchclip.dense.results import Results
from patchclip.dense.segmentation import Segmentation
from patchclip.errors import DataError


def found(*labels: str) -> Segmentation:
    image = Image.new("RGB", (6, 4), "teal")
    label_map = np.ones((4, 6), np.int64)
    return Segmentation(image, labels, label_map, torch.rand(len(labels), 2, 3))


def written(folder: Path, *pictures: str, labels: tuple[str, ...] = ("cat",)) -> dict[str, Any]:
    results = Results(folder)
    for name in pictures:
        results.add(found(*labels), Path(f"{name}.png"), name)
    return results.write()


def files_of(path: Path) -> list[str]:
    return [image["file_name"] for image in json.loads(path.read_text("utf-8"))["images"]]


def test_a_document_of_other_images_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path, "a", "b")
    with caplog.at_level(logging.WARNING):
        written(tmp_path, "a", "b")
        written(tmp_path, "a", "b", "c")
    assert caplog.text == "", "the same images and more are no loss"
    assert not list(tmp_path.glob("*.bak"))
    with caplog.at_level(logging.WARNING):
        written(tmp_path, "c")
    assert "annotations.json was of 3 images, 2 of them not in this call" in caplog.text
    assert "annotations.json.bak" in caplog.text
    assert files_of(tmp_path / "annotations.json") == ["c.png"]
    assert files_of(tmp_path / "annotations.json.bak") == ["a.png", "b.png", "c.png"]
    assert (tmp_path / "areas.csv.bak").read_text("utf-8").count("\n") == 7
    assert (tmp_path / "areas.csv").read_text("utf-8").count("\n") == 3


def test_a_document_that_is_not_ours_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for text in ("no JSON", "[1, 2]", '{"images": 3}', '{"images": [{"id": 1}]}'):
        (tmp_path / "annotations.json").write_text(text)
        with caplog.at_level(logging.WARNING):
            written(tmp_path, "a")
        assert (tmp_path / "annotations.json.bak").read_text() == text
    assert caplog.text.count("annotations.json.bak") == 4


def test_heat_of_labels_of_before_is_removed_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path, "a", "a_heat_cat", labels=("cat", "dog"))
    Image.new("RGB", (3, 3)).save(tmp_path / "a_heat_photo.png")
    Image.new("P", (3, 3)).save(tmp_path / "a_heat_mask.png")
    (tmp_path / "a_heat_text.png").write_text("no picture")
    written(tmp_path, "a", labels=("cat", "cow"))
    left = {path.name for path in tmp_path.glob("*.png")}
    assert left == {
        *("a_overlay.png", "a_labels.png", "a_heat_cat.png", "a_heat_cow.png"),
        *("a_heat_cat_overlay.png", "a_heat_cat_labels.png"),
        *("a_heat_cat_heat_cat.png", "a_heat_cat_heat_dog.png"),
        *("a_heat_photo.png", "a_heat_mask.png", "a_heat_text.png"),
    }


def test_what_is_there_is_saved_when_the_call_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    results = Results(tmp_path, bad=[{"file": "x.png", "reason": "bad"}])
    results.rescue()
    assert list(tmp_path.iterdir()) == []
    results.add(found("cat"), Path("a.png"), "a")
    results.rescue()
    assert files_of(tmp_path / "annotations.json") == ["a.png"]

    def full(*_: object) -> None:
        raise DataError("the disk is full")

    monkeypatch.setattr("patchclip.dense.results.write_text", full)
    with caplog.at_level(logging.WARNING):
        results.rescue()
    assert "the disk is full" in caplog.text


def test_no_two_pictures_write_one_file() -> None:
    """`a` has a heat map a_heat_cat_overlay.png, and a picture a_heat_cat an overlay of that name."""
    assert picture_names(["a", "a_heat_cat"], ["cat", "dog"]) == ["a", "a_heat_cat"]
    for label in ("cat_overlay", "CAT_Labels", "cat_heat_cat"):
        for names in (["a", "a_heat_cat"], ["a_heat_cat", "a"], ["A", "a_HEAT_cat", "a_heat_cat-2"]):
            labels = [label, "cat"]
            chosen = picture_names(names, labels)
            kinds = ["overlay", "labels", *(f"heat_{part}" for part in unique_names(labels))]
            files = [f"{name}_{kind}".casefold() for name in chosen for kind in kinds]
            assert len(set(files)) == len(files), chosen


def test_numbered_names_are_not_longer_than_others() -> None:
    """A name is made safe once more when it is used: what is cut off then must not be its number."""
    names = unique_names(["x" * 200] * 12)
    assert unique_names(names) == names
    assert len(set(names)) == 12
    assert max(map(len, names)) == LONGEST
