"""Evaluation sets in Hugging Face datasets, built in memory or saved to a temporary folder."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from patchclip.data.layouts import hub
from patchclip.data.layouts.folders import DEFAULT_TEMPLATES
from patchclip.data.layouts.hub import is_hub_folder, open_hub_folder, open_hub_name
from patchclip.data.sets import Choice, Classification, Multilabel, Retrieval, Selection
from patchclip.errors import DataError
from tests.data._make import colour, encoded, noisy
from tests.data._make_sets import lines

NAMES = datasets.ClassLabel(names=["tabby_cat", "dog"])


def pictures(*numbers: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), colour(number)) for number in numbers]


def rows(columns: dict[str, list[Any]], **kinds: Any) -> Any:
    known = {column: datasets.Image() for column in columns if column.startswith("image")}
    return datasets.Dataset.from_dict(columns, features=datasets.Features({**known, **kinds}))


def labelled(*labels: int) -> Any:
    return rows({"image": pictures(*range(len(labels))), "label": list(labels)}, label=NAMES)


def saved(folder: Path, made: Any) -> Path:
    made.save_to_disk(folder)
    return folder


@pytest.fixture(autouse=True)
def quiet() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def test_classes_and_splits(tmp_path: Path) -> None:
    made = datasets.DatasetDict(
        test=labelled(-1, -1), validation=labelled(1, 0, 1), train=labelled(0, 1), extra=labelled(-1)
    )
    folder = saved(tmp_path / "set", made)
    assert is_hub_folder(folder)
    found = open_hub_folder(folder, "set", "test")
    assert isinstance(found, Classification)
    assert (found.classnames, found.labels.tolist()) == (("tabby cat", "dog"), [1, 0, 1])
    assert found.templates is DEFAULT_TEMPLATES
    assert found.images[2].getpixel((0, 0)) == colour(2)
    train = found.split("train")
    assert train is not None
    assert train.labels.tolist() == [0, 1]
    assert found.split("val") is None, "its test has no labels, so validation is evaluated"
    assert found.split("extra") is None
    assert found.images.fingerprint == open_hub_folder(folder, "set", "test").images.fingerprint
    assert found.images.fingerprint != train.images.fingerprint


def test_own_names_and_prompts(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", labelled(0, 1))
    lines(folder / "classnames.txt", "cat", "hound")
    lines(folder / "zeroshot_classification_templates.txt", "{c}!")
    found = open_hub_folder(folder, "set", "test")
    assert isinstance(found, Classification)
    assert found.prompts(1) == ("hound!",)
    assert found.split("train") is None
    lines(folder / "classnames.txt", "cat")
    with pytest.raises(DataError, match=r"classnames.txt must have a line for each of the 2 classes, got 1"):
        open_hub_folder(folder, "set", "test")


def test_several_labels(tmp_path: Path) -> None:
    made = rows({"image": pictures(0, 1, 2), "labels": [[0, 1], [], [1]]}, labels=datasets.Sequence(NAMES))
    found = open_hub_folder(saved(tmp_path / "set", made), "set", "test")
    assert isinstance(found, Multilabel)
    assert found.labels.tolist() == [[1, 1], [0, 0], [0, 1]]


@pytest.mark.parametrize("several", [False, True])
def test_captions(tmp_path: Path, several: bool) -> None:
    text = datasets.Value("string")
    cells: list[Any] = [["a", " b "], ["c"]] if several else ["a", "c"]
    columns = {"image": pictures(0, 1), "caption": cells, "filename": ["x", "y"]}
    made = rows(columns, caption=datasets.Sequence(text) if several else text, filename=text)
    found = open_hub_folder(saved(tmp_path / "set", made), "set", "test")
    assert isinstance(found, Retrieval)
    assert list(found.captions) == [("a", "b") if several else ("a",), ("c",)]


def test_winoground(tmp_path: Path) -> None:
    text = datasets.Value("string")
    columns: dict[str, list[Any]] = {"image_0": pictures(0, 2), "image_1": pictures(1, 3)}
    texts = {"caption_0": ["a", "c"], "caption_1": ["b", "d"]}
    made = rows({**columns, **texts}, caption_0=text, caption_1=text)
    found = open_hub_folder(saved(tmp_path / "set", made), "winoground", "test")
    assert isinstance(found, Selection)
    assert found.choices == (Choice((0, 1), ("a", "b")), Choice((2, 3), ("c", "d")))
    assert [found.images[i].getpixel((0, 0)) for i in range(4)] == [colour(i) for i in range(4)]
    with pytest.raises(IndexError):
        found.images[4]


def test_a_folder_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set" / "data").mkdir(parents=True)
    labelled(1, 0).to_parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet")
    labelled(1).to_parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    assert is_hub_folder(tmp_path / "set")
    found = open_hub_folder(tmp_path / "set", "set", "test")
    assert isinstance(found, Classification)
    assert found.labels.tolist() == [1, 0]
    assert found.split("val") is None
    train = found.split("train")
    assert train is not None
    assert len(train) == 1
    with pytest.raises(DataError, match=r"set has no split 'extra' .*Unknown split"):
        open_hub_folder(tmp_path / "set", "set", "extra")


def test_names_are_passed_on_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(*names: Any, split: str) -> Any:
        asked.append((*names, split))
        if split == "test":
            raise ValueError("Unknown split")
        return labelled(0)

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = open_hub_name("hf:org/name:fr", "test")
    assert (found.name, len(found)) == ("hf:org/name:fr", 1)
    assert asked == [("org/name", "fr", "test"), ("org/name", "fr", "validation")]


def test_one_damaged_image_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    cells = [{"bytes": encoded(0), "path": None}, {"bytes": noisy()[:-90], "path": None}]
    made = rows({"image": cells, "label": [0, 1]}, label=NAMES)
    found = open_hub_folder(saved(tmp_path / "set", made), "set", "test")
    assert found.images[0].getpixel((0, 0)) == colour(0)
    with pytest.raises(DataError, match=r"set, row 1, 'image': the image cannot be decoded"):
        found.images[1]


def test_what_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, number = datasets.Value("string"), datasets.Value("int64")
    cases = (
        (rows({"caption": ["a"]}, caption=text), "must have a column of the type Image"),
        (rows({"image": pictures(0), "x": [1]}, x=number), "column of the type ClassLabel, or captions"),
        (
            rows({"image": pictures(0), "caption": [" "]}, caption=text),
            "row 0: 'caption' must hold a caption",
        ),
        (labelled(0, -1), r"row 1: a label must be in \[0, 2\), got -1"),
        (labelled(-1), "no split 'test' .*labels of its split 'test' are all -1"),
        (labelled(), "set has no split 'test' that can be opened"),
    )
    for number, (made, message) in enumerate(cases):
        with pytest.raises(DataError, match=message):
            open_hub_folder(saved(tmp_path / str(number), made), "set", "test")
    monkeypatch.setattr(hub, "library", lambda: (_ for _ in ()).throw(DataError("pip install")))
    with pytest.raises(DataError, match="pip install"):
        open_hub_name("hf:a/b", "test")
