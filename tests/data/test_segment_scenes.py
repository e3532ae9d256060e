"""Masks beside the images of shards, with objects and their nouns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclip.data.benchmarks import load_benchmark, open_sets, resolve
from patchclip.data.sets import Retrieval, Segmented, Selection
from patchclip.errors import DataError
from tests.data import _make_segmented as make
from tests.data._make import Member, encoded, write_tar
from tests.data._make_sets import wds_captions


def masks_of(root: Path) -> Segmented:
    found = load_benchmark(root, "mine/masks")
    assert isinstance(found, Segmented)
    return found


def scenes(folder: Path, *objects: Any, masks: bool = True) -> Path:
    """A set of shards whose image k shows objects (id, noun) with these numbers in its mask."""
    members: list[Member] = []
    for i, row in enumerate(objects):
        facts = {"objects": [{"id": number, "noun": noun} for number, noun in row]}
        members += [
            (f"s{i}.png", encoded(i)),
            (f"s{i}.txt", b"a caption"),
            (f"s{i}.json", json.dumps(facts).encode()),
        ]
        ids = np.resize(np.array([0, *(number for number, _ in row)]), (8, 8))
        members += [(f"s{i}.inst.png", make.grey(ids, 8))] * masks
    wds_captions(folder, ["a"])
    write_tar(folder / "test" / "0.tar", members)
    return folder


def test_objects_with_masks_are_classes_by_their_nouns(tmp_path: Path) -> None:
    scenes(tmp_path / "mine", [(1, "dog"), (2, "cat")], [(1, "cat"), (3, "a  cup")])
    found = open_sets(tmp_path, ["mine"])
    assert [type(each) for each in found] == [Retrieval, Segmented]
    masks = found[1]
    assert isinstance(masks, Segmented)
    assert (masks.name, masks.background, masks.protocol) == ("mine/masks", 0, "")
    assert masks.classnames == ("background", "a cup", "cat", "dog")
    assert masks.images is found[0].images
    assert [masks[i][1].reshape(-1)[:3].tolist() for i in range(2)] == [[0, 3, 2], [0, 2, 1]]
    assert resolve(tmp_path, ["mine/masks", "Mine/Masks"]) == (["mine/masks"], [])
    assert masks_of(tmp_path).images.fingerprint == masks.images.fingerprint


def test_sets_without_masks_or_objects_have_none(tmp_path: Path) -> None:
    scenes(tmp_path / "mine", [(1, "dog")], masks=False)
    assert [type(each) for each in open_sets(tmp_path, ["mine"])] == [Retrieval]
    write_tar(
        tmp_path / "mine" / "test" / "0.tar",
        [("a.png", encoded(0)), ("a.txt", b"a"), ("a.json", b"[]"), ("a.inst.png", b"")],
    )
    assert [type(each) for each in open_sets(tmp_path, ["mine"])] == [Retrieval]
    assert resolve(tmp_path, ["mine/masks"])[1][0][0] == "mine/masks"
    with pytest.raises(DataError, match="dataset 'mine/masks' is not under"):
        open_sets(tmp_path, ["mine/masks"])


@pytest.mark.parametrize(
    "name, body, rule",
    [
        ("b.txt", b"a", "0.tar, b: it must have .inst.png and .json as the first sample .* got no .inst.png"),
        ("b.json", b"{", r"0.tar, b.json: it must be JSON with objects"),
        ("b.json", b"{}", r"0.tar, b.json: it must have the key 'objects'"),
        (
            "b.json",
            b'{"objects": [{"id": 0, "noun": "x"}]}',
            "a number from 1 on of its own and a noun, got id 0",
        ),
        ("b.json", b'{"objects": [{"id": 1, "noun": "x"}, {"id": 1, "noun": "y"}]}', "got id 1, noun 'y'"),
        ("b.json", b'{"objects": [{"id": 1, "noun": " "}]}', "a noun, got id 1, noun ''"),
    ],
)
def test_damaged_scenes_are_named(tmp_path: Path, name: str, body: bytes, rule: str) -> None:
    good = json.dumps({"objects": [{"id": 1, "noun": "x"}]}).encode()
    mask = make.grey(np.zeros((8, 8), int), 8)
    members = [("a.png", encoded(0)), ("a.txt", b"a"), ("a.json", good), ("a.inst.png", mask)]
    members += [("b.png", encoded(1)), ("b.txt", b"a")]
    if name == "b.json":
        members += [(name, body), ("b.inst.png", mask)]
    wds_captions(tmp_path / "mine", ["a"])
    write_tar(tmp_path / "mine" / "test" / "0.tar", members)
    with pytest.raises(DataError, match=rule):
        open_sets(tmp_path, ["mine"])


def test_wrong_masks_of_scenes_are_named(tmp_path: Path) -> None:
    facts = json.dumps({"objects": [{"id": 1, "noun": "x"}]}).encode()
    wrong = make.grey(np.full((8, 8), 2), 8), make.grey(np.zeros((8, 9), int), 8)
    members: list[Member] = []
    for key, mask in zip("ab", wrong, strict=True):
        members += [(f"{key}.png", encoded(0)), (f"{key}.txt", b"a"), (f"{key}.json", facts)]
        members += [(f"{key}.inst.png", mask)]
    wds_captions(tmp_path / "mine", ["a"])
    write_tar(tmp_path / "mine" / "test" / "0.tar", members)
    masks = masks_of(tmp_path).masks
    with pytest.raises(DataError, match=r"0.tar, a.inst.png: its values must be 0 to 1 \(a class\), got 2"):
        masks[0]
    with pytest.raises(
        DataError, match=r"0.tar, b.inst.png: a mask must be of its image's size, 8 x 8 .*9 x 8"
    ):
        masks[1]


def test_the_shipped_scenes_have_masks() -> None:
    captions, *selections, masks = open_sets("samples", ["scenes"])
    assert isinstance(masks, Segmented)
    assert [type(each) for each in selections] == [Selection] * 7
    assert (len(masks), len(masks.classnames), masks.classnames[0]) == (216, 72, "background")
    assert masks.images is captions.images
    for index in range(0, 216, 40):
        image, found = masks[index]
        assert found.shape == (image.height, image.width) == (224, 224)
        caption = captions[index][1][0]
        nouns = {masks.classnames[label] for label in set(found.reshape(-1).tolist())} - {"background"}
        assert len(nouns) in (2, 3)
        assert all(noun in caption for noun in nouns)
        assert 0.4 < (found == 0).mean() < 0.98
