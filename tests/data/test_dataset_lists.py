"""Names of sets as users write them."""

from pathlib import Path

import pytest

from patchclip.data.dataset_lists import LISTS, expand, match, nearest
from patchclip.errors import DataError
from tests.data._make_sets import lines


def test_lists_hold_each_set_once() -> None:
    assert {name: len(names) for name, names in LISTS.items()} == {
        "vtab": 19,
        "vtab+": 36,
        "retrieval": 3,
        "imagenet-robustness": 5,
        "sugar-crepe": 7,
        "cls17": 17,
        "segmentation": 8,
    }
    assert all(len(set(names)) == len(names) for names in LISTS.values())


def test_lists_and_files_are_expanded(tmp_path: Path) -> None:
    path = lines(tmp_path / "my.txt", "# of mine", "", "b  # last", "imagenet_robustness", "a")
    assert expand(["a", "retrieval", str(path), "a"]) == [
        *("a", "mscoco_captions", "flickr8k", "flickr30k", "b"),
        *LISTS["imagenet-robustness"],
    ]
    assert expand([" ", ""]) == []
    lines(tmp_path / "deep" / "more.txt", "c", "../my.txt.bak")
    lines(path, "a", "deep/more.txt")
    assert expand([str(path)]) == ["a", "c", "../my.txt.bak"], "a list beside the list that names it"
    with pytest.raises(DataError, match=r"none.txt must exist, UTF-8, with one data set a line"):
        expand(["none.txt"])


def test_lists_that_name_nothing_or_themselves_are_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "my.txt", "# nothing", "")
    with pytest.raises(DataError, match=r"my.txt must hold one data set a line: it names none"):
        expand([str(path)])
    lines(path, "a", "inner.txt")
    lines(tmp_path / "inner.txt", "b", "my.txt")
    with pytest.raises(DataError, match=r"inner.txt must not name my.txt, which names it: delete that line"):
        expand([str(path)])
    lines(path, "a", "gone.txt")
    with pytest.raises(DataError, match=r"gone.txt must exist"):
        expand([str(path)])


@pytest.mark.parametrize(
    "asked, found",
    [
        ("food101", "wds_food101"),
        ("wds/food101", "wds_food101"),
        ("wds/vtab/caltech101", "vtab-caltech101"),
        ("vtab/dtd", "dtd"),
        ("pets", "wds/vtab-pets"),
        ("zs-Emoji", "zs_emoji"),
        ("imagenet1k", "ImageNet"),
        ("mscoco_captions", "coco"),
        ("imagenetv2", "imagenetv2-matched-frequency-format-val"),
        ("zs", None),
        ("vtab/none", None),
    ],
)
def test_variants_of_a_name(asked: str, found: str | None) -> None:
    known = [
        "wds_food101",
        "vtab-caltech101",
        "dtd",
        "wds/vtab-pets",
        "zs_emoji",
        "zs_emoji_novel",
        "ImageNet",
    ]
    known += ["coco", "imagenetv2-matched-frequency-format-val"]
    assert match(asked, known) == found


def test_the_name_itself_comes_first() -> None:
    assert match("food-101", ["food101", "food-101", "wds_food101"]) == "food-101"
    assert match("wds/food101", ["food101", "wds_food101"]) == "wds_food101"
    assert match("food_101", ["food101", "wds_food101"]) == "food101"
    assert match("vtab/pets", ["pets", "vtab_pets"]) == "vtab_pets"


def test_the_nearest_name_is_given() -> None:
    assert nearest("zs_phto", ["zs_photo", "x"]) == "did you mean 'zs_photo'?"
    assert nearest("qqq", ["zs_photo", "x"]) == "it has x, zs_photo"
    assert nearest("qqq", [f"s{number}" for number in range(8)]) == "it has s0, s1, s2, s3, s4, s5, s6, s7"
    assert nearest("qqq", [f"s{n}" for n in range(10)]).endswith("s6, s7 and 2 more")
    assert nearest("qqq", []) == "it has no set"
