"""Captions in one file beside a folder of images."""

from pathlib import Path
from typing import Any

import pytest

from patchclip.data.layouts.annotations import is_annotated_set, open_annotated_set
from patchclip.errors import DataError
from tests.data._make import colour
from tests.data._make_sets import as_json, lines, picture

COCO = {
    "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}],
    "annotations": [
        {"image_id": 7, "caption": "bee"},
        {"image_id": 3, "caption": " an  a\n"},
        {"image_id": 7, "caption": "abeille"},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "b.png", "split": "test", "sentences": [{"raw": "bee"}, {"raw": "abeille"}]},
        {"filename": "a.png", "split": "train", "sentences": [{"raw": "a"}]},
    ]
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate("ab"):
        picture(tmp_path / "val2017" / f"{name}.png", number)
    return tmp_path


@pytest.mark.parametrize("name", ["annotations/captions_val2017.json", "coco_test_karpathy.json"])
def test_coco(folder: Path, name: str) -> None:
    as_json(folder / name, COCO)
    assert is_annotated_set(folder)
    made = open_annotated_set(folder, "coco", "test")
    assert list(made.captions) == [("an a",), ("bee", "abeille")], "by ascending id, as torchvision reads it"
    assert [made[i][0].getpixel((0, 0)) for i in range(2)] == [colour(0), colour(1)]


def test_karpathys_file_of_all_splits(folder: Path) -> None:
    as_json(folder / "dataset_coco.json", KARPATHY)
    assert list(open_annotated_set(folder, "coco", "test").captions) == [("bee", "abeille")]
    assert list(open_annotated_set(folder, "coco", "train").captions) == [("a",)]
    with pytest.raises(DataError, match="must hold images with captions of the split 'val', got none"):
        open_annotated_set(folder, "coco", "val")


def test_a_list_of_images(folder: Path) -> None:
    rows = [
        {"image": "val2017/b.png", "caption": ["bee", "abeille"]},
        {"image": "val2017/a.png", "caption": "a"},
    ]
    as_json(folder / "coco_karpathy_test.json", rows)
    assert list(open_annotated_set(folder, "coco", "test").captions) == [("bee", "abeille"), ("a",)]


def test_flickr(folder: Path) -> None:
    rows = ["image,caption", "b.png,bee, yellow", 'a.png,"say ""a"", please"', "b.png,abeille"]
    lines(folder / "flickr8k_test_karpathy.txt", *rows)
    lines(folder / "flickr8k_train_karpathy.txt", "image,caption", "a.png,a")
    made = open_annotated_set(folder, "flickr8k", "test")
    assert list(made.captions) == [("bee, yellow", "abeille"), ('say "a", please',)]
    assert list(open_annotated_set(folder, "flickr8k", "train").captions) == [("a",)]
    lines(folder / "flickr8k_test_karpathy.txt", "image,caption", "a.png,a", "no image")
    with pytest.raises(
        DataError, match=r"karpathy.txt, line 3: it must be IMAGE.jpg,CAPTION, got 'no image'"
    ):
        open_annotated_set(folder, "flickr8k", "test")


def test_the_file_of_a_split_is_chosen_by_its_name(folder: Path) -> None:
    as_json(folder / "captions_val2017.json", COCO)
    as_json(folder / "captions_train2017.json", {"images": [], "annotations": []})
    assert len(open_annotated_set(folder, "coco", "test")) == 2
    as_json(folder / "captions_val2014.json", COCO)
    message = "several caption files for the split 'test': captions_val2014.json, captions_val2017.json"
    with pytest.raises(DataError, match=message):
        open_annotated_set(folder, "coco", "test")


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", r"captions_val.json, line 2, column 1: it must be JSON"),
        ("[" * 100000, r"captions_val.json.* it must be JSON"),
        ({"images": {}, "annotations": []}, "'images' must be a list, got {}"),
        (
            {"images": [{"id": 1}], "annotations": []},
            r"images\[0\]: it must have the key 'file_name', got 'id'",
        ),
        (
            {**COCO, "annotations": [{"image_id": 9, "caption": "x"}]},
            r"annotations\[0\]: its image_id .* got 9",
        ),
        (
            {**COCO, "annotations": [{"image_id": 7, "caption": 3}]},
            r"annotations\[0\]: 'caption' must be text",
        ),
        (
            {**COCO, "annotations": [{"image_id": 3, "caption": " "}]},
            r"images\[1\]: the image 'a.png' must have",
        ),
        ({"images": [], "annotations": []}, "must hold images with captions"),
        ([{"image": "../a.png", "caption": "x"}], "must be relative and stay inside .* got '../a.png'"),
        ([{"image": "/a.png", "caption": "x"}], "must be relative"),
        ([{"image": "c.png", "caption": "x"}], "names the image 'c.png', which is nowhere in"),
        (
            [{"image": "a.png", "caption": "x"}, {"image": "c.png", "caption": "x"}],
            "'c.png', which is not in",
        ),
        ([{"image": "a.png", "caption": "x"}] * 2, "every image once, got 'a.png' 2 times"),
        ([{"image": "a.png", "caption": [1]}], "entry 0: 'caption' must be a text or a list of texts"),
    ],
)
def test_faulty_files_are_named(folder: Path, content: Any, message: str) -> None:
    path = folder / "captions_val.json"
    lines(path, content) if isinstance(content, str) else as_json(path, content)
    with pytest.raises(DataError, match=message):
        open_annotated_set(folder, "coco", "test")
