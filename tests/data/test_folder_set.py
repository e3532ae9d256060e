"""Evaluation sets as folders of images."""

from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from patchclip.data.layouts.folders import (
    DEFAULT_TEMPLATES,
    is_captioned_folder,
    is_class_folders,
    open_captioned_folder,
    open_class_folders,
)
from patchclip.errors import DataError
from tests.data._make import colour
from tests.data._make_sets import class_folders, lines, picture


@pytest.mark.parametrize("part", ["", "test", "val", "validation"])
def test_class_folders(tmp_path: Path, part: str) -> None:
    class_folders(tmp_path / part, "tabby_cat", "b-dog", images=2)
    assert is_class_folders(tmp_path)
    made = open_class_folders(tmp_path, "pets", "test")
    assert made.classnames == ("b dog", "tabby cat")
    assert made.labels.tolist() == [0, 0, 1, 1]
    assert [made.images[i].getpixel((0, 0)) for i in range(4)] == [colour(n) for n in (10, 11, 0, 1)]
    assert made.templates is DEFAULT_TEMPLATES
    assert made.prompts(1) == ("a photo of a tabby cat.",)


def test_own_names_and_prompts(tmp_path: Path) -> None:
    class_folders(tmp_path, "x", "y")
    lines(tmp_path / "classnames.txt", "an ex", "a why")
    lines(tmp_path / "zeroshot_classification_templates.txt", "{c}!")
    made = open_class_folders(tmp_path, "s", "test")
    assert [made.prompts(label) for label in range(2)] == [("an ex!",), ("a why!",)]
    lines(tmp_path / "classnames.txt", "an ex")
    message = r"classnames.txt must have a line for each of the 2 class folders \(from 'x' to 'y'\), got 1"
    with pytest.raises(DataError, match=message):
        open_class_folders(tmp_path, "s", "test")
    lines(tmp_path / "classnames.txt", "an ex", "a why")
    lines(tmp_path / "zeroshot_classification_templates.txt", "{c}!", "photo")
    with pytest.raises(DataError, match=r"templates.txt, line 2"):
        open_class_folders(tmp_path, "s", "test")


def test_numbered_folders_are_labels(tmp_path: Path) -> None:
    """ImageNet-V2's folders: "10" is label 10, which the order of letters would make label 2."""
    class_folders(tmp_path, *map(str, range(11)))
    made = open_class_folders(tmp_path, "v2", "test")
    assert made.classnames == tuple(map(str, range(11)))
    assert [made.images[i].getpixel((0, 0)) for i in (2, 10)] == [colour(20), colour(100)]


def test_splits_share_the_classes_of_all(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", "a", "b", "c")
    class_folders(tmp_path / "val", "b", "c", images=2)
    made = open_class_folders(tmp_path, "s", "test")
    assert (made.classnames, made.labels.tolist()) == (("a", "b", "c"), [1, 1, 2, 2])
    train = made.split("train")
    assert train is not None
    assert train.labels.tolist() == [0, 1, 2]
    assert made.split("val") is None, "what is evaluated as test is not to be trained on"
    back = train.split("val")
    assert back is not None
    assert back.images.fingerprint == made.images.fingerprint
    with pytest.raises(DataError, match=r"has no split 'extra': .* has val, train"):
        open_class_folders(tmp_path, "s", "extra")


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    class_folders(tmp_path, "a", "b")
    lines(tmp_path / "a" / "notes.txt", "x")
    picture(tmp_path / "a" / ".hidden.png")
    picture(tmp_path / "a" / "deep" / "IMAGE.PNG", 77)
    (tmp_path / "empty").mkdir()
    made = open_class_folders(tmp_path, "s", "test")
    assert (made.classnames, made.labels.tolist()) == (("a", "b", "empty"), [0, 0, 1])
    assert made.images[1].getpixel((0, 0)) == colour(77)


@pytest.mark.parametrize("target", [".", "..", "../..", "deep"])
def test_each_image_counts_once_whatever_links_there_are(
    tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    class_folders(tmp_path, "cat", "dog", images=2)
    picture(tmp_path / "cat" / "deep" / "0.png", 77)
    (tmp_path / "cat" / "again").symlink_to(target)
    (tmp_path / "bird").symlink_to("dog")
    made = open_class_folders(tmp_path, "s", "test")
    assert (made.classnames, made.labels.tolist()) == (("bird", "cat", "dog"), [0, 0, 1, 1, 1, 2, 2])
    assert "is passed over: it is " in caplog.text


def test_a_damaged_file_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    class_folders(tmp_path, "a", "b")
    (tmp_path / "b" / "0.png").write_bytes(b"no image")
    made = open_class_folders(tmp_path, "s", "test")
    with pytest.raises(DataError, match=r"b/0.png: the image cannot be decoded"):
        made[1]
    (tmp_path / "b" / "0.png").unlink()
    with pytest.raises(DataError, match=r"b/0.png: .*No such file"):
        made[1]


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", "a", "b")
    (tmp_path / "test" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"test must hold images .* the split is empty"):
        open_class_folders(tmp_path, "s", "test")


def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    class_folders(tmp_path / "coco", "train2017", "val2017")
    class_folders(tmp_path / "single", "images")
    (tmp_path / "none" / "a").mkdir(parents=True)
    assert not any(is_class_folders(tmp_path / name) for name in ("coco", "single", "none", "absent"))


@pytest.mark.parametrize("part", ["", "test", "val"])
def test_captions_beside_images(tmp_path: Path, part: str) -> None:
    for number, text in enumerate(("one\nun\n\n", "two")):
        picture(tmp_path / part / f"{number}.png", number).with_suffix(".txt").write_text(text)
    assert is_captioned_folder(tmp_path)
    assert not is_class_folders(tmp_path)
    made = open_captioned_folder(tmp_path, "r", "test")
    assert list(made.captions) == [("one", "un"), ("two",)]
    assert made[1][0].getpixel((0, 0)) == colour(1)
    with pytest.raises(DataError, match="r has no split 'train'"):
        open_captioned_folder(tmp_path, "r", "train")


def test_missing_and_empty_captions_are_named(tmp_path: Path) -> None:
    lines(picture(tmp_path / "0.png").with_suffix(".txt"), "a")
    picture(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1.txt must exist, UTF-8, with the captions of the image"):
        open_captioned_folder(tmp_path, "r", "test")
    lines(tmp_path / "1.txt", " ")
    with pytest.raises(DataError, match=r"1.txt must hold the captions .* it is empty"):
        open_captioned_folder(tmp_path, "r", "test")


def test_labels_and_order_are_torchvisions(tmp_path: Path) -> None:
    class_folders(tmp_path, "b", "B", "a10", "a9", images=3)
    picture(tmp_path / "b" / "deep" / "0.png", 90)
    picture(tmp_path / "b" / "a.png", 91)
    made, reference = open_class_folders(tmp_path, "s", "test"), ImageFolder(str(tmp_path))
    assert list(made.classnames) == reference.classes
    assert made.labels.tolist() == reference.targets
    pixels = [made.images[i].getpixel((0, 0)) for i in range(len(made))]
    assert pixels == [reference[i][0].getpixel((0, 0)) for i in range(len(reference))]
