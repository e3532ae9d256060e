"""Compositional files: beside a set, SugarCrepe, Winoground, ARO."""

import json
from pathlib import Path
from typing import Any

import pytest

from patchclip.data.layouts import selections
from patchclip.data.layouts.folders import open_class_folders
from patchclip.data.layouts.selections import is_selection_set, open_selection_set, selections_of
from patchclip.data.layouts.wds import open_wds_set
from patchclip.data.sets import Choice
from patchclip.errors import DataError
from tests.data._make import colour
from tests.data._make_sets import as_json, class_folders, lines, picture, question, wds_captions


def test_questions_over_the_images_of_a_set(tmp_path: Path) -> None:
    folder = wds_captions(tmp_path / "scenes", ["a", "b"])
    as_json(folder / "compositional" / "swap_obj.json", {"7": question("s0000001.png", " a  b ", "b a")})
    as_json(folder / "compositional" / "add_att.json", [question("s0000000.png"), question("s0000001.png")])
    main = open_wds_set(folder, "scenes", "test")
    found = selections_of(folder, main)
    assert [(each.name, each.kind, len(each)) for each in found] == [
        ("scenes/add_att", "add_att", 2),
        ("scenes/swap_obj", "swap_obj", 1),
    ]
    assert all(each.images is main.images for each in found)
    assert found[1].choices == (Choice((1,), ("a b", "b a")),)
    assert selections.kinds(folder) == ["add_att", "swap_obj"]


def test_the_last_part_of_a_file_name_will_do_where_it_is_unique(tmp_path: Path) -> None:
    folder = class_folders(tmp_path, "a", "b")
    picture(folder / "b" / "only.png", 5)
    main = open_class_folders(folder, "s", "test")
    path = as_json(folder / "compositional" / "k.json", [question("only.png"), question("b/0.png")])
    (found,) = selections_of(folder, main)
    assert [choice.images for choice in found.choices] == [(2,), (1,)]
    as_json(path, [question("only.png"), question("0.png")])
    with pytest.raises(DataError, match=r"k.json, entry 1: .* '0.png' is that of several images"):
        selections_of(folder, main)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"3": question("gone.png")}, "k.json, entry '3': .*'gone.png' is that of no image"),
        (
            {"3": {"filename": "s0000000.png", "caption": "a"}},
            "entry '3': it must have the key 'negative_caption'",
        ),
        ({"3": question("s0000000.png", "a", " ")}, "entry '3': 'negative_caption' must not be empty"),
        ({"3": question("../s0000000.png")}, "entry '3': a file name must be relative"),
        ({"3": ["x"]}, "entry '3': it must be an object with the key 'filename'"),
        ([], "k.json: it must hold a list or an object of entries, got none"),
        (5, "k.json: it must hold a list or an object of entries, got none"),
    ],
)
def test_faulty_entries_are_named(tmp_path: Path, content: Any, message: str) -> None:
    folder = wds_captions(tmp_path / "scenes", ["a"])
    as_json(folder / "compositional" / "k.json", content)
    with pytest.raises(DataError, match=message):
        selections_of(folder, open_wds_set(folder, "scenes", "test"))


@pytest.mark.parametrize("images", ["sugar_crepe/val2017", "val2017", "coco/val2017"])
def test_sugar_crepe(tmp_path: Path, images: str) -> None:
    folder = tmp_path / "sugar_crepe"
    for number in range(3):
        picture(tmp_path / images / f"{number}.png", number)
    as_json(folder / "swap_obj.json", {"0": question("2.png"), "5": question("1.png")})
    as_json(folder / "add_obj.json", {"0": question("1.png")})
    assert is_selection_set(folder)
    found = open_selection_set(folder, "sugar_crepe")
    assert [each.name for each in found] == ["sugar_crepe/add_obj", "sugar_crepe/swap_obj"]
    assert found[0].images is found[1].images
    assert len(found[0].images) == 2, "only the images that are asked about"
    swap = [found[1].images[choice.images[0]].getpixel((0, 0)) for choice in found[1].choices]
    assert swap == [colour(2), colour(1)]


def test_sugar_crepe_without_its_images(tmp_path: Path) -> None:
    folder = tmp_path / "sugar_crepe"
    as_json(folder / "swap_obj.json", {"0": question("1.png"), "1": question("2.png")})
    with pytest.raises(DataError, match=r"swap_obj.json names '1.png', which is in none of .*val2017"):
        open_selection_set(folder, "sugar_crepe")
    picture(folder / "val2017" / "1.png")
    with pytest.raises(DataError, match=r"names '2.png', which is not in .*val2017"):
        open_selection_set(folder, "sugar_crepe")


@pytest.mark.parametrize("inner, suffix", [("", ""), ("data", ".png")])
def test_winoground(tmp_path: Path, inner: str, suffix: str) -> None:
    row = {"id": 0, "caption_0": "a on b", "caption_1": "b on a"}
    row |= {"image_0": f"ex_0_img_0{suffix}", "image_1": f"ex_0_img_1{suffix}"}
    lines(tmp_path / inner / "examples.jsonl", json.dumps(row))
    for number in range(2):
        picture(tmp_path / inner / "images" / f"ex_0_img_{number}.png", number)
    (found,) = open_selection_set(tmp_path, "winoground")
    assert (found.name, found.choices) == ("winoground", (Choice((0, 1), ("a on b", "b on a")),))
    assert [found.images[i].getpixel((0, 0)) for i in range(2)] == [colour(0), colour(1)]
    lines(tmp_path / inner / "examples.jsonl", json.dumps(row), "{'")
    with pytest.raises(DataError, match=r"examples.jsonl, line 2: it must be a JSON object"):
        open_selection_set(tmp_path, "winoground")


def aro(image: str = "1.png", **changes: Any) -> dict[str, Any]:
    box = {"bbox_x": 2, "bbox_y": 1, "bbox_w": 4, "bbox_h": 3}
    return {"image_path": image, "true_caption": "t", "false_caption": "f", **box, **changes}


def test_aro(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "1.png", 1)
    picture(tmp_path / "images" / "2.png", 2)
    rows = [aro("2.png"), aro("1.png"), aro("2.png", false_caption="g"), aro("1.png", bbox_w=2)]
    as_json(tmp_path / "visual_genome_relation.json", rows)
    as_json(tmp_path / "visual_genome_attribution.json", [aro()])
    relation, attribution = open_selection_set(tmp_path, "aro")
    assert (relation.name, relation.kind, attribution.name) == ("aro/relation", "relation", "aro/attribution")
    assert [choice.images for choice in relation.choices] == [(0,), (1,), (0,), (2,)]
    assert relation.choices[2].captions == ("t", "g")
    assert [relation.images[i].size for i in range(3)] == [(4, 3), (4, 3), (2, 3)]
    assert [relation.images[i].getpixel((0, 0)) for i in range(3)] == [colour(2), colour(1), colour(1)]
    assert relation.images.fingerprint != attribution.images.fingerprint
    assert selections.kinds(tmp_path) == ["attribution", "relation"]


def test_groups_of_aro_are_those_of_its_macro_accuracy(tmp_path: Path) -> None:
    """Relations but for its symmetric ones, pairs of attributes in their order with at least 25 questions."""
    picture(tmp_path / "images" / "1.png")
    names = ["on", "next to", "riding on", "wearing"]
    as_json(tmp_path / "visual_genome_relation.json", [aro(relation_name=each) for each in names])
    pairs = [["red", "small"]] * 25 + [["small", "red"]] * 24
    as_json(tmp_path / "visual_genome_attribution.json", [aro(attributes=pair) for pair in pairs])
    relation, attribution = open_selection_set(tmp_path, "aro")
    assert [choice.group for choice in relation.choices] == ["on", "", "", "wearing"]
    assert [choice.group for choice in attribution.choices] == ["red_small"] * 25 + [""] * 24
    as_json(tmp_path / "visual_genome_relation.json", [aro()])
    assert open_selection_set(tmp_path, "aro")[0].choices[0].group == ""
    for faulty in ({"attributes": ["red"]}, {"attributes": "red_small"}, {"attributes": ["red", 1]}):
        as_json(tmp_path / "visual_genome_attribution.json", [aro(**faulty)])
        with pytest.raises(DataError, match=r"attribution.json, entry 0: .*attributes"):
            open_selection_set(tmp_path, "aro")


@pytest.mark.parametrize(
    "change", [{"bbox_w": 0}, {"bbox_h": 1 << 20}, {"bbox_x": -(1 << 20)}, {"bbox_w": True}]
)
def test_boxes_have_bounds(tmp_path: Path, change: dict[str, Any]) -> None:
    picture(tmp_path / "images" / "1.png")
    as_json(tmp_path / "visual_genome_relation.json", [aro(**change)])
    with pytest.raises(DataError, match=r"relation.json, entry 0: .*bbox_"):
        open_selection_set(tmp_path, "aro")
