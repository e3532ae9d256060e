"""Class lists: order of the labels, names that are asked for."""

from pathlib import Path

import pytest

from patchclip.data.layouts.segment_classes import class_list, known_lists, read_class_list
from patchclip.errors import DataError
from tests.data._make_sets import lines

COUNTS = {
    "ade20k": 150,
    "cityscapes": 19,
    "coco_object": 81,
    "coco_stuff": 171,
    "context59": 59,
    "context60": 60,
    "voc20": 20,
    "voc21": 21,
}
PLACES = {
    "ade20k": {0: "wall", 7: "bed", 12: "person", 44: "chest of drawers", 136: "traffic light", 149: "flag"},
    "cityscapes": {0: "road", 5: "pole", 6: "traffic light", 11: "person", 12: "rider", 18: "bicycle"},
    "coco_object": {0: "background", 1: "person", 12: "stop sign", 61: "dining table", 80: "toothbrush"},
    "coco_stuff": {0: "person", 11: "stop sign", 79: "toothbrush", 80: "banner", 157: "tree", 170: "wood"},
    "context59": {0: "aeroplane", 1: "bag", 36: "person", 39: "potted plant", 54: "tv monitor", 58: "wood"},
    "context60": {0: "background", 1: "aeroplane", 37: "person", 47: "sky", 53: "tree", 59: "wood"},
    "voc20": {0: "aeroplane", 3: "boat", 10: "dining table", 14: "person", 19: "tv monitor"},
    "voc21": {0: "background", 1: "aeroplane", 15: "person", 20: "tv monitor"},
}


def test_class_lists_have_the_order_of_the_labels() -> None:
    assert {name: len(class_list(name).classnames) for name in known_lists()} == COUNTS
    for name, places in PLACES.items():
        classnames = class_list(name).classnames
        assert {place: classnames[place] for place in places} == places
    assert class_list("voc21").classnames[1:] == class_list("voc20").classnames
    assert class_list("context60").classnames[1:] == class_list("context59").classnames
    assert class_list("coco_object").classnames[1:] == class_list("coco_stuff").classnames[:80]


def test_classes_are_asked_for_by_the_names_of_the_field() -> None:
    names = {
        name: dict(zip(class_list(name).classnames, class_list(name).names, strict=True)) for name in COUNTS
    }
    assert names["voc20"]["boat"] == ("ship",)
    assert names["voc20"]["dining table"] == ("table",)
    assert len(names["voc21"]["background"]) == len(names["coco_object"]["background"]) == 26
    assert names["voc21"]["background"][::25] == ("sky", "fence")
    assert (len(names["voc21"]["person"]), len(names["voc21"]["tv monitor"])) == (7, 5)
    assert names["coco_stuff"]["fire hydrant"] == ("firehydrant",)
    assert names["coco_object"]["fire hydrant"] == ("fire hydrant",)
    assert names["context60"]["background"] == ("background",)
    total = {name: sum(map(len, class_list(name).names)) for name in COUNTS}
    single = ("ade20k", "cityscapes", "coco_stuff", "context59", "context60")
    assert {name: total[name] for name in single} == {name: COUNTS[name] for name in single}
    assert {name: total[name] for name in ("voc20", "voc21", "coco_object")} == {
        "voc20": 20 + 6 + 4,
        "voc21": 21 + 25 + 6 + 4,
        "coco_object": 81 + 25 + 7,
    }


def test_class_lists_are_checked(tmp_path: Path) -> None:
    path = lines(tmp_path / "classes.txt", "", "# a note", "a = b | c", "sea|  lake ", "x=y")
    found = read_class_list(path)
    assert found.classnames == ("a", "sea", "x=y")
    assert found.names == (("b", "c"), ("sea", "lake"), ("x=y",))
    assert found.background is None
    for row, rule in (
        ("cat | | dog", "line 3: .* got an empty name: 'cat | | dog'"),
        ("a = b |", "line 3: .* got an empty name"),
        ("sea | lake", "line 3: each class must be listed once, got 'sea' again"),
    ):
        with pytest.raises(DataError, match=rule):
            read_class_list(lines(path, "# a note", "sea", row))
    with pytest.raises(DataError, match="it is empty"):
        read_class_list(lines(path, "# a note"))
    with pytest.raises(DataError, match="class list 'voc22' does not exist: did you mean 'voc21'"):
        class_list("voc22")
