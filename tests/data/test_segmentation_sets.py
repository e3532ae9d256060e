"""Segmentation sets: names, class lists, kinds of masks, options, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclip.data.benchmarks import find_benchmarks, load_benchmark, open_sets, resolve
from patchclip.data.dataset_lists import LISTS
from patchclip.data.sets import Classification, Retrieval, Segmented
from patchclip.errors import DataError
from tests.data import _make_segmented as make
from tests.data._make_sets import as_json, class_folders, lines


def opened(root: Path, name: str, split: str = "test") -> Segmented:
    found = load_benchmark(root, name, split)
    assert isinstance(found, Segmented)
    return found


def test_sets_are_found_by_their_names(tmp_path: Path) -> None:
    make.voc(tmp_path / "VOCdevkit" / "VOC2012")
    make.context(tmp_path / "VOCdevkit" / "VOC2010")
    make.coco(tmp_path / "coco", "annotations/val2017", ".png", (0, 255))
    make.cityscapes(tmp_path / "cityscapes", "labelTrainIds", (0, 255))
    make.ade(tmp_path / "ADEChallengeData2016")
    make.plain(tmp_path / "mine")
    make.plain(tmp_path / "more" / "yours")
    class_folders(tmp_path / "pets" / "test", "cat", "dog")
    known = set(LISTS["segmentation"])
    assert find_benchmarks(tmp_path) == sorted({*known, "mine", "more/yours", "pets"})
    asked = ["segmentation", "VOC-21", "Pascal_Context59", "ade150", "coco-stuff-171", "pets"]
    assert resolve(tmp_path, asked) == ([*LISTS["segmentation"], "pets"], [])
    found = open_sets(tmp_path, [*LISTS["segmentation"], "more/yours"])
    assert [each.name for each in found] == [*LISTS["segmentation"], "more/yours"]
    assert isinstance(load_benchmark(tmp_path, "pets"), Classification)
    assert resolve(tmp_path, ["voc22"])[1][0][1].endswith("did you mean 'voc21'?")


def test_the_root_may_be_the_set_itself(tmp_path: Path) -> None:
    assert find_benchmarks(make.voc(tmp_path / "VOC2012")) == ["voc20", "voc21"]
    assert find_benchmarks(make.plain(tmp_path / "mine")) == ["mine"]
    assert len(opened(tmp_path / "mine", "mine")) == 2
    assert find_benchmarks(make.cityscapes(tmp_path / "city", "labelIds", (0, 7))) == ["cityscapes"]


def test_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    make.voc(tmp_path / "VOC2012")
    make.voc(tmp_path / "old" / "VOC2012")
    names = ["VOC2012/voc20", "VOC2012/voc21", "old/VOC2012/voc20", "old/VOC2012/voc21"]
    assert find_benchmarks(tmp_path) == names
    assert opened(tmp_path, "old/VOC2012/voc21").images.folder == tmp_path / "old" / "VOC2012" / "JPEGImages"
    assert opened(tmp_path, names[0]).name == names[0]


def test_other_years_of_voc_are_not_voc2012(tmp_path: Path) -> None:
    make.voc(tmp_path / "VOC2007")
    make.context(tmp_path / "VOC2010")
    assert [name for name in find_benchmarks(tmp_path) if name != "VOC2007"] == ["context59", "context60"]


def test_only_folders_of_ade_are_ade(tmp_path: Path) -> None:
    make.ade(tmp_path / "road_cracks")
    make.plain(tmp_path / "other")
    assert find_benchmarks(tmp_path) == ["other"]


def test_the_list_decides_images_and_order(tmp_path: Path) -> None:
    make.voc(tmp_path / "VOC2012")
    found = opened(tmp_path, "voc21")
    assert list(found.images.names) == ["2007_000042.jpg", "2007_000033.jpg"]
    assert list(found.masks.names) == ["2007_000042.png", "2007_000033.png"]
    make.voc(tmp_path / "VOC2012", part="train")
    assert len(opened(tmp_path, "voc21", "train")) == 2
    for line, rule in (
        ("2007_000033", "line 4: each image must be listed once, got '2007_000033' as in line 3"),
        ("../up", r"line 4: a file name must be relative and stay inside"),
        ("2009_1", r"val.txt: .*2009_1.jpg is missing"),
    ):
        listed = tmp_path / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
        lines(listed, "2007_000042", "", "2007_000033", line)
        with pytest.raises(DataError, match=rule):
            opened(tmp_path, "voc21")
    lines(listed, "", " ")
    with pytest.raises(DataError, match=r"must hold masks \(\*.png\): the split is empty"):
        opened(tmp_path, "voc21")


def test_splits_that_are_not_there_are_named(tmp_path: Path) -> None:
    make.ade(tmp_path / "ade20k")
    with pytest.raises(DataError, match=r"annotations.training must hold masks .*the split is empty"):
        opened(tmp_path, "ade20k", "train")
    with pytest.raises(DataError, match="ade20k has no split 'eval'"):
        opened(tmp_path, "ade20k", "eval")
    make.plain(tmp_path / "mine")
    with pytest.raises(DataError, match=r"mine has no split 'train': .* has one split"):
        opened(tmp_path, "mine", "train")
    for number, part in enumerate(("training", "val")):
        make.plain(tmp_path / "split", (0, number, 255), part)
    assert opened(tmp_path, "split", "train").masks[0].max() == 0
    assert opened(tmp_path, "split").masks[0].max() == opened(tmp_path, "split", "val").masks[0].max() == 1


def test_options_of_a_plain_set(tmp_path: Path) -> None:
    codes = (0, 1, 2, 3, 9, 77)
    folder = make.plain(tmp_path / "mine", codes)
    options = {"reduce_zero": True, "ignore_index": [9, 77], "background": "dog", "protocol": "voc21"}
    as_json(folder / "segmentation.json", options)
    found = opened(tmp_path, "mine")
    assert (found.background, found.protocol) == (2, "voc21")
    assert found.classnames == ("background", "a cat", "dog")
    assert found.synonyms == (("background",), ("a cat", "a kitten"), ("a hound",))
    expected = {0: -1, 1: 0, 2: 1, 3: 2, 9: -1, 77: -1}
    assert found.masks[1].tolist() == [
        [expected[each] for each in row] for row in make.values(codes).tolist()
    ]
    as_json(folder / "segmentation.json", {"background": None, "ignore_index": None})
    found = opened(tmp_path, "mine")
    assert found.background is None
    with pytest.raises(DataError, match=r"its values must be 0 to 2 \(a class\), got 3"):
        found.masks[1]


@pytest.mark.parametrize(
    "options, rule",
    [
        ([1], r"must be an object of options, '\[1\]' is none"),
        ({"ignore": 255}, "'ignore' is none: did you mean 'ignore_index'"),
        ({"reduce_zero": 1}, "'reduce_zero' must be true where 0 is not scored .* got 1"),
        (
            {"ignore_index": 2},
            r"'ignore_index' must be a number in the masks that is no class \(0 to 2 are\)",
        ),
        ({"ignore_index": "255"}, "'ignore_index' must be a number .* got '255'"),
        ({"ignore_index": [True]}, "'ignore_index' must be a number"),
        ({"background": "sea"}, "'background' must be a class in classes.txt or null, got 'sea'"),
        ({"protocol": 3}, "'protocol' must be text, got 3"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: Any, rule: str) -> None:
    as_json(make.plain(tmp_path / "mine") / "segmentation.json", options)
    with pytest.raises(DataError, match=rf"segmentation.json: .*{rule}|{rule}"):
        opened(tmp_path, "mine")


def test_pictures_that_share_a_mask_are_refused(tmp_path: Path) -> None:
    folder = make.plain(tmp_path / "mine")
    make.image(folder / "images" / "one.jpg")
    with pytest.raises(DataError, match=r"one.jpg and one.png have one mask"):
        opened(tmp_path, "mine")


def test_every_number_of_coco_has_its_class(tmp_path: Path) -> None:
    unused = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}  # of labels.txt, which counts from 1
    raw = [number - 1 for number in range(1, 183) if number not in unused]
    place = tmp_path / "coco" / "annotations" / "val2017"
    make.image(tmp_path / "coco" / "images" / "val2017" / "1.jpg", size=(19, 9))
    make.mask(place / "1.png", np.array(raw).reshape(9, 19))
    assert opened(tmp_path, "coco_stuff").masks[0].reshape(-1).tolist() == list(range(171))
    things = [number if number <= 80 else 0 for number in range(1, 172)]
    assert opened(tmp_path, "coco_object").masks[0].reshape(-1).tolist() == things
    for number in unused:
        make.mask(place / "1.png", np.full((9, 19), number - 1))
        with pytest.raises(
            DataError, match=rf"its values must be 0 to 10, 12 to 24, .*, got {number - 1} in"
        ):
            opened(tmp_path, "coco_stuff").masks[0]


def test_raw_maps_may_lie_among_those_made_of_them(tmp_path: Path) -> None:
    folder = make.coco(tmp_path / "coco", "annotations/val2017", ".png", (0, 255))
    make.coco(folder, "annotations/val2017", "_labelTrainIds.png", (1, 255))
    stuff, things = (opened(tmp_path, name) for name in ("coco_stuff", "coco_object"))
    assert list(stuff.masks.names) == ["000000000139_labelTrainIds.png", "000000000285_labelTrainIds.png"]
    assert list(things.masks.names) == ["000000000139.png", "000000000285.png"]
    make.coco(folder, "annotations/val2017", "_instanceTrainIds.png", (1, 2))
    assert opened(tmp_path, "coco_object").masks[0].min() == 1


def test_a_set_that_was_found_before_keeps_its_kind(tmp_path: Path) -> None:
    make.coco(tmp_path / "coco", "annotations/val2017", ".png", (0, 255))
    rows = {"id": 139, "file_name": "000000000139.jpg"}, {"image_id": 139, "caption": "a room"}
    as_json(
        tmp_path / "coco" / "annotations" / "captions_val2017.json",
        dict(zip(("images", "annotations"), ([rows[0]], [rows[1]]), strict=True)),
    )
    class_folders(tmp_path / "coco" / "pets", "cat", "dog")
    assert find_benchmarks(tmp_path) == ["coco", "coco_object", "coco_stuff"]
    assert isinstance(load_benchmark(tmp_path, "coco"), Retrieval)
    assert find_benchmarks(tmp_path / "coco") == ["annotations", "coco_object", "coco_stuff", "pets"]
