"""Evaluation sets in clip_benchmark's layout."""

import json
from pathlib import Path

import pytest

from patchclip.data import benchmarks
from patchclip.data.benchmarks import (
    Classification,
    Retrieval,
    find_benchmarks,
    list_datasets,
    load_benchmark,
)
from patchclip.errors import DataError
from tests.data._make import colour, encoded, noisy, write_tar

Members = list[tuple[str, bytes]]


def classification(root: Path, labels: list[str], shards: int = 1) -> Path:
    folder = root / "zs"
    for shard in range(shards):
        members: Members = []
        for i, label in list(enumerate(labels))[shard::shards]:
            members += [(f"s{i:07d}.webp", encoded(i, "webp")), (f"s{i:07d}.cls", label.encode())]
        write_tar(folder / "test" / f"{shard}.tar", members)
    (folder / "test" / "nshards.txt").write_text(f"{shards}\n")
    (folder / "classnames.txt").write_text("a cat\na dog\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of {c}.\n{c}\n")
    return folder


def retrieval(root: Path, texts: list[str], kind: str = "retrieval") -> Path:
    folder = root / "ret"
    members: Members = []
    for i, text in enumerate(texts):
        members += [(f"s{i:07d}.txt", text.encode()), (f"s{i:07d}.png", encoded(i))]
    write_tar(folder / "test" / "0.tar", members)
    (folder / "test" / "nshards.txt").write_text("1")
    (folder / "dataset_type.txt").write_text(kind)
    return folder


@pytest.mark.parametrize("shards", [1, 2])
def test_a_classification_set(tmp_path: Path, shards: int) -> None:
    classification(tmp_path, ["0", "1\n", "1"], shards)
    made = load_benchmark(tmp_path, "zs")
    assert isinstance(made, Classification)
    assert (made.name, made.classnames, made.templates) == (
        "zs",
        ("a cat", "a dog"),
        ("a photo of {c}.", "{c}"),
    )
    order = [0, 1, 2] if shards == 1 else [0, 2, 1]
    found = [made[i] for i in range(len(made))]
    assert [(image.mode, label) for image, label in found] == [("RGB", [0, 1, 1][i]) for i in order]
    assert [image.getpixel((2, 2)) for image, _ in found] == [colour(i) for i in order]


def test_a_retrieval_set(tmp_path: Path) -> None:
    retrieval(tmp_path, ["one\n eins \n\nun", "two"])
    made = load_benchmark(str(tmp_path), "ret")
    assert isinstance(made, Retrieval)
    assert [made[i][1] for i in range(len(made))] == [("one", "eins", "un"), ("two",)]
    assert made[1][0].getpixel((0, 0)) == colour(1)


def test_sets_are_found_by_their_shards(tmp_path: Path) -> None:
    classification(tmp_path, ["0"])
    retrieval(tmp_path, ["a"])
    (tmp_path / "other").mkdir()
    (tmp_path / "file.txt").touch()
    assert find_benchmarks(tmp_path) == ["ret", "zs"]


def test_missing_roots_sets_and_splits_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no such folder"):
        find_benchmarks(tmp_path / "absent")
    with pytest.raises(DataError, match=r"must hold evaluation sets .* got none"):
        find_benchmarks(tmp_path)
    classification(tmp_path, ["0"])
    with pytest.raises(DataError, match=r"dataset 'sz' is not under .* Known: zs"):
        load_benchmark(tmp_path, "sz")
    with pytest.raises(DataError, match=r"zs has no split 'tset' .*did you mean 'test'\?"):
        load_benchmark(tmp_path, "zs", split="tset")


@pytest.mark.parametrize("label", ["2", "-1", "cat", ""])
def test_a_label_outside_the_classes_is_refused(tmp_path: Path, label: str) -> None:
    classification(tmp_path, ["0", label])
    with pytest.raises(DataError, match=r"s0000001.webp: its .cls must be a label in \[0, 2\)"):
        load_benchmark(tmp_path, "zs")


@pytest.mark.parametrize("kind", ["multilabel", "captioning"])
def test_other_tasks_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    retrieval(tmp_path, ["a"], kind)
    with pytest.raises(DataError, match=f"must say classification or retrieval, got '{kind}'"):
        load_benchmark(tmp_path, "ret")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("classnames.txt", None, "classnames.txt must exist"),
        ("classnames.txt", " \n", "it is empty"),
        ("zeroshot_classification_templates.txt", "a photo\n", r"must contain \{c\} .* got 'a photo'"),
        ("test/nshards.txt", "many", "must hold the number of shards, at least 1, got 'many'"),
        ("test/nshards.txt", "0", "at least 1, got '0'"),
        ("test/nshards.txt", "3", "1.tar is missing, but counted in nshards.txt"),
    ],
)
def test_faulty_text_files_are_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    path = classification(tmp_path, ["0"]) / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_benchmark(tmp_path, "zs")


def test_faulty_shards_are_refused_whole(tmp_path: Path) -> None:
    path = classification(tmp_path, ["0", "1"]) / "test" / "0.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:700])
    with pytest.raises(DataError, match=r"0.tar must be whole: it is cut at byte 700"):
        load_benchmark(tmp_path, "zs")
    write_tar(path, [("k.cls", b"0")])
    with pytest.raises(DataError, match=r"k: it must have an image"):
        load_benchmark(tmp_path, "zs")


def test_faulty_captions_and_images_are_named(tmp_path: Path) -> None:
    folder = retrieval(tmp_path, ["a", " \n"])
    with pytest.raises(DataError, match=r"s0000001.png: its .txt must hold captions, got none"):
        load_benchmark(tmp_path, "ret")
    write_tar(folder / "test" / "0.tar", [("k.jpg", noisy()[:-99]), ("k.txt", b"a")])
    made = load_benchmark(tmp_path, "ret")
    with pytest.raises(DataError, match=r"0.tar, k.jpg: the image cannot be decoded"):
        made[0]
    write_tar(folder / "test" / "0.tar", [("k.png", encoded(0)), ("k.txt", b"\xff")])
    with pytest.raises(DataError, match=r"k.txt: it must be UTF-8"):
        load_benchmark(tmp_path, "ret")


def test_the_shipped_sets_agree_with_their_list() -> None:
    rows = json.loads((Path(benchmarks.__file__).parent / "samples" / "datasets.json").read_text("utf-8"))
    described = {row["name"]: row for row in rows}
    assert [name for name, _, _ in list_datasets()] == list(described)
    assert all(summary and source for _, summary, source in list_datasets())
    names = find_benchmarks("samples")
    assert set(described) - set(names) == {"train"}
    for name in names:
        made = load_benchmark("samples", name)
        assert len(made) == described[name]["images"]
        assert made[len(made) - 1][0].mode == "RGB"
        if isinstance(made, Classification):
            assert len(made.classnames) == described[name]["classes"]
            assert {label for _, label in made.entries} == set(range(len(made.classnames)))
