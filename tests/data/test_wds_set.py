"""Evaluation sets in clip_benchmark's webdataset layout."""

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclip.data.layouts.wds import _multi_hot, open_wds_set
from patchclip.data.sets import Classification, Multilabel, Retrieval
from patchclip.errors import DataError
from tests.data._make import colour, encoded, noisy, write_tar
from tests.data._make_sets import lines, wds_captions, wds_classes


def multilabel(folder: Path, *arrays: bytes) -> Path:
    wds_classes(folder, [])
    members = [(f"{i}.png", encoded(i)) for i in range(len(arrays))]
    members += [(f"{i}.npy", body) for i, body in enumerate(arrays)]
    write_tar(folder / "test" / "0.tar", members)
    lines(folder / "dataset_type.txt", "multilabel")
    return folder


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("shards", [1, 2])
def test_a_classification_set(tmp_path: Path, shards: int) -> None:
    made = open_wds_set(wds_classes(tmp_path / "zs", ["0", "1\n", "1"], shards), "zs", "test")
    assert isinstance(made, Classification)
    assert (made.name, made.classnames) == ("zs", ("a cat", "a dog"))
    assert made.templates == ("a photo of {c}.", "{c}")
    assert made.prompts(1) == ("a photo of a dog.", "a dog")
    order = [0, 1, 2] if shards == 1 else [0, 2, 1]
    assert made.labels.tolist() == [[0, 1, 1][i] for i in order]
    images = [made.images[i] for i in range(len(made))]
    assert [(image.mode, image.getpixel((2, 2))) for image in images] == [("RGB", colour(i)) for i in order]
    with pytest.raises(IndexError):
        made.images[3]


def test_a_retrieval_set(tmp_path: Path) -> None:
    made = open_wds_set(wds_captions(tmp_path / "ret", ["one\n eins \n\nun", "two"]), "ret", "test")
    assert isinstance(made, Retrieval)
    assert list(made.captions) == [("one", "eins", "un"), ("two",)]
    assert made[1][0].getpixel((0, 0)) == colour(1)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32, np.bool_])
def test_a_multilabel_set(tmp_path: Path, dtype: Any) -> None:
    rows = [[0, 1], [1, 1], [0, 0]]
    made = open_wds_set(multilabel(tmp_path / "ml", *(npy(np.array(r, dtype)) for r in rows)), "ml", "test")
    assert isinstance(made, Multilabel)
    assert made.labels.dtype == np.uint8
    assert made.labels.tolist() == rows
    assert made[1][0].getpixel((0, 0)) == colour(1)


@pytest.mark.parametrize(
    "body, message",
    [
        (npy([0, 1, 1]), r"got int64 of shape \(3,\)"),
        (npy([0, 2]), "got 2"),
        (npy([0, float("nan")]), "got nan"),
        (npy([None, {}]), r"got object of shape \(2,\)"),
        (npy([0, 1])[:-3], "cannot be read"),
        (b"text", "cannot be read"),
        (b"", "cannot be read"),
        (b"x" * (1 << 15), r"0.npy must be at most \d+ bytes, got 32768"),
    ],
)
def test_faulty_multilabels_are_named(tmp_path: Path, body: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"0.tar, 0.png: .*{message}"):
        open_wds_set(multilabel(tmp_path / "ml", body), "ml", "test")


@pytest.mark.parametrize("seed", range(24))
def test_damaged_headers_are_named(seed: int) -> None:
    """NumPy parses them as Python: TokenError, SyntaxError, TypeError, MemoryError and more come out."""
    draw = random.Random(seed)
    whole = npy([False, True])
    for _ in range(40):
        body = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            body[draw.randrange(len(body))] = draw.choice(b"(){}[]'\"\\,:0-9 \n\tNx\0\xff#=")
        message = ""
        try:
            assert set(_multi_hot(bytes(body), 2, "0.tar, 0.png")) <= {0, 1}
        except DataError as error:
            message = str(error)
        assert message.startswith("0.tar, 0.png: its .npy must hold one 0 or 1" if message else "")


@pytest.mark.parametrize("header", ["(" * 3000, "'''", "{[]: 1}", "{'descr': {}, 'shape': (2,)}", "-" * 9000])
def test_headers_that_are_no_dictionary_are_named(tmp_path: Path, header: str) -> None:
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with pytest.raises(DataError, match=r"0.tar, 0.png: its .npy must hold .* cannot be read"):
        open_wds_set(multilabel(tmp_path / "ml", body), "ml", "test")


def test_room_for_a_claimed_size_is_never_made(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4398046511104,), }"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(DataError, match=r"got uint8 of shape \(4398046511104,\)"):
        open_wds_set(multilabel(tmp_path / "ml", body), "ml", "test")


def test_other_splits_share_the_classes(tmp_path: Path) -> None:
    folder = wds_classes(tmp_path / "zs", ["0", "1"])
    wds_classes(folder, ["1"], split="train")
    wds_classes(folder, ["0", "0", "1"], split="validation")
    made = open_wds_set(folder, "zs", "test")
    assert isinstance(made, Classification)
    train, val = made.split("train"), made.split("val")
    assert train is not None
    assert val is not None
    assert (train.labels.tolist(), val.labels.tolist()) == ([1], [0, 0, 1])
    assert made.split("other") is None
    assert made.split("test") is None, "the split in use"
    assert len({made.images.fingerprint, train.images.fingerprint, val.images.fingerprint}) == 3


def test_the_fingerprint_follows_the_shards(tmp_path: Path) -> None:
    folder = wds_classes(tmp_path / "zs", ["0", "1"])
    first = open_wds_set(folder, "zs", "test").images.fingerprint
    assert open_wds_set(folder, "zs", "test").images.fingerprint == first
    os.utime(folder / "test" / "0.tar", ns=(1, 1))
    touched = open_wds_set(folder, "zs", "test").images.fingerprint
    wds_classes(folder, ["0", "1", "1"])
    os.utime(folder / "test" / "0.tar", ns=(1, 1))
    assert len({first, touched, open_wds_set(folder, "zs", "test").images.fingerprint}) == 3


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"zs has no split 'tset' .*did you mean 'test'\?"):
        open_wds_set(wds_classes(tmp_path / "zs", ["0"]), "zs", "tset")


@pytest.mark.parametrize("label", ["2", "-1", "cat", "", "²"])
def test_a_label_outside_the_classes_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match=r"0.tar, s0000001.webp: its .cls must be a label in \[0, 2\)"):
        open_wds_set(wds_classes(tmp_path / "zs", ["0", label]), "zs", "test")


def test_other_tasks_are_refused_by_name(tmp_path: Path) -> None:
    rule = "dataset_type.txt must hold one of classification, multilabel, retrieval, got 'captioning'"
    with pytest.raises(DataError, match=rule):
        open_wds_set(wds_captions(tmp_path / "ret", ["a"], "captioning"), "ret", "test")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("classnames.txt", None, "classnames.txt must exist"),
        ("classnames.txt", " \n", "it is empty"),
        ("classnames.txt", "a cat\n\na dog\n", "classnames.txt, line 2: .* got an empty line"),
        (
            "zeroshot_classification_templates.txt",
            "{c}\na photo\n",
            r"templates.txt, line 2: it must contain \{c\}, .* got 'a photo'",
        ),
        ("test/nshards.txt", "many", "must hold the number of shards, at least 1, got 'many'"),
        ("test/nshards.txt", "0", "at least 1, got '0'"),
        ("test/nshards.txt", "3", "1.tar is missing, but counted in nshards.txt"),
    ],
)
def test_faulty_text_files_are_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    folder = wds_classes(tmp_path / "zs", ["0"])
    (folder / name).unlink() if text is None else (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        open_wds_set(folder, "zs", "test")


def test_faulty_shards_are_refused_whole(tmp_path: Path) -> None:
    folder = wds_classes(tmp_path / "zs", ["0", "1"])
    path = folder / "test" / "0.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"0.tar must be whole: it is cut at byte 700"):
        open_wds_set(folder, "zs", "test")
    for members, message in (
        ([("k.cls", b"0")], "k: it must have an image"),
        ([("k.png", encoded(0)), ("k.png", encoded(0))], "k.png: it must be in the tar once"),
        ([("k.png", encoded(0)), ("k.cls", b"0" * 65)], "k.cls must be at most 64 bytes, got 65"),
        ([], "0.tar must hold images: the split is empty"),
    ):
        write_tar(path, members)
        with pytest.raises(DataError, match=message):
            open_wds_set(folder, "zs", "test")


def test_faulty_captions_and_images_are_named(tmp_path: Path) -> None:
    folder = wds_captions(tmp_path / "ret", ["a", " \n"])
    with pytest.raises(DataError, match=r"s0000001.png: its .txt must hold captions, got none"):
        open_wds_set(folder, "ret", "test")
    write_tar(folder / "test" / "0.tar", [("k.jpg", noisy()[:-99]), ("k.txt", b"a")])
    made = open_wds_set(folder, "ret", "test")
    with pytest.raises(DataError, match=r"0.tar, k.jpg: the image cannot be decoded"):
        made.images[0]
    write_tar(folder / "test" / "0.tar", [("k.png", encoded(0)), ("k.txt", b"\xff")])
    with pytest.raises(DataError, match=r"k.png: its .txt must be UTF-8"):
        open_wds_set(folder, "ret", "test")


def test_parts_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    folder = wds_captions(tmp_path / "ret", [])
    extra = [
        ("a.json", json.dumps({}).encode()),
        ("a.inst.png", encoded(9)),
        ("a.png", encoded(1)),
        ("a.txt", b"x"),
    ]
    write_tar(folder / "test" / "0.tar", extra)
    made = open_wds_set(folder, "ret", "test")
    assert len(made) == 1
    assert made.images[0].getpixel((0, 0)) == colour(1)
