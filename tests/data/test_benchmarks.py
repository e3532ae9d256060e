"""The front door: sets of every layout under one root."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from patchclip.data import benchmarks
from patchclip.data.benchmarks import find_benchmarks, list_datasets, load_benchmark, open_sets, resolve
from patchclip.data.sets import Benchmark, Classification, Retrieval, Selection
from patchclip.errors import DataError
from tests.data._make import colour
from tests.data._make_sets import (
    as_json,
    class_folders,
    lines,
    picture,
    question,
    wds_captions,
    wds_classes,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One set of each layout that needs no optional package."""
    wds_classes(tmp_path / "wds" / "food101", ["0", "1"])
    scenes = wds_captions(tmp_path / "scenes", ["a", "b"])
    as_json(scenes / "compositional" / "swap_obj.json", [question("s0000001.png")])
    as_json(scenes / "compositional" / "add_att.json", [question("s0000000.png")])
    class_folders(tmp_path / "pets" / "test", "cat", "dog")
    lines(picture(tmp_path / "mine" / "0.png").with_suffix(".txt"), "a caption")
    crepe = tmp_path / "sugar_crepe"
    for number, kind in enumerate(("add_obj", "swap_obj")):
        picture(crepe / "val2017" / f"{number}.png", number)
        as_json(crepe / f"{kind}.json", {"0": question(f"{number}.png")})
    coco = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": "a"}]}
    as_json(tmp_path / "coco" / "annotations" / "captions_val2017.json", coco)
    picture(tmp_path / "coco" / "val2017" / "1.png")
    (tmp_path / "nothing" / "here").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    lines(tmp_path / "file.txt", "x")
    return tmp_path


NAMES = ["coco", "mine", "pets", "scenes", "sugar_crepe", "wds/food101"]


def described(sets: list[Benchmark]) -> list[tuple[str, str]]:
    return [(each.name, type(each).__name__) for each in sets]


def test_every_layout_is_found(root: Path) -> None:
    assert find_benchmarks(root) == NAMES
    kinds = [type(load_benchmark(str(root), name)) for name in NAMES]
    assert kinds == [Retrieval, Retrieval, Classification, Retrieval, Selection, Classification]


def test_sets_come_with_their_selections(root: Path) -> None:
    found = open_sets(root, ["scenes", "pets", "sugar_crepe"])
    assert described(found) == [
        ("scenes", "Retrieval"),
        ("scenes/add_att", "Selection"),
        ("scenes/swap_obj", "Selection"),
        ("pets", "Classification"),
        ("sugar_crepe/add_obj", "Selection"),
        ("sugar_crepe/swap_obj", "Selection"),
    ]
    assert found[0].images is found[1].images is found[2].images
    (one,) = open_sets(root, ["sugar_crepe/swap_obj"])
    assert one.images.fingerprint == found[-1].images.fingerprint
    assert one.images[1].getpixel((0, 0)) == colour(1)
    assert load_benchmark(root, "scenes/swap_obj").name == "scenes/swap_obj"


def test_what_is_asked_for_is_found_or_listed(root: Path) -> None:
    mine = lines(root / "my.txt", "pets", "wds/food101", "gone")
    asked = ["Food-101", "sugar-crepe", str(mine), "scenes/swap-obj", "hf:org/name", "pest", "none.txt"]
    found, missing = resolve(root, asked)
    assert found == [
        *("wds/food101", "sugar_crepe/add_obj", "sugar_crepe/swap_obj", "pets", "scenes/swap_obj"),
        "hf:org/name",
    ]
    reasons = dict(missing)
    assert list(reasons) == [
        "none.txt",
        *(f"sugar_crepe/{kind}" for kind in ("add_att", "replace_att", "replace_obj", "replace_rel")),
        *("sugar_crepe/swap_att", "gone", "pest"),
    ]
    assert reasons["pest"].endswith("has no set of this name: did you mean 'pets'?")
    assert "none.txt must exist" in reasons["none.txt"]
    assert len(open_sets(root, found[:-1])) == 5


def test_nothing_under_the_root_is_needed_for_the_hub(tmp_path: Path) -> None:
    assert resolve(tmp_path / "absent", ["hf:a/b", "hf:a/b"]) == (["hf:a/b"], [])
    assert resolve(tmp_path, ["a"])[1] == [("a", f"{str(tmp_path)!r} has no set of this name: it has no set")]


def test_an_empty_request_has_its_reason(root: Path) -> None:
    reason = "no name was given: name data sets, as pets,wds/food101"
    assert resolve(root, ["", " "]) == ([], [(", ", reason)])
    assert resolve(root, ["pets", ""]) == (["pets"], [])


def test_a_set_names_the_one_that_it_shifts(root: Path) -> None:
    lines(root / "pets" / "shift_of.txt", "food101")
    shifted, plain = open_sets(root, ["pets", "wds/food101"])
    assert isinstance(shifted, Classification)
    assert isinstance(plain, Classification)
    assert (shifted.shift_of, plain.shift_of) == ("food101", "")


def test_missing_roots_and_sets_are_named(root: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        find_benchmarks(root / "absent")
    with pytest.raises(DataError, match="there is no such folder"):
        resolve(root / "absent", ["pets"])
    with pytest.raises(DataError, match=r"must hold evaluation sets .* got none"):
        find_benchmarks(root / "nothing")
    with pytest.raises(DataError, match=r"got a set itself: give .*wds"):
        find_benchmarks(root / "wds" / "food101")
    with pytest.raises(DataError, match=r"got a set itself: give "):
        find_benchmarks(root / "pets")
    with pytest.raises(DataError, match=r"dataset 'pest' is not under .*did you mean 'pets'"):
        load_benchmark(root, "pest")
    with pytest.raises(DataError, match="dataset 'scenes/swap_att' is not under"):
        open_sets(root, ["scenes/swap_att"])
    for name in ("../pets", "/pets", ""):
        with pytest.raises(DataError, match="must be relative and stay inside"):
            load_benchmark(root, name)


def test_a_folder_that_may_not_be_read_is_passed_over(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "nothing":
            raise PermissionError("no")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert find_benchmarks(root) == NAMES
    assert "nothing is passed over: no" in caplog.text


def test_the_shipped_sets_agree_with_their_list() -> None:
    rows = json.loads((Path(benchmarks.__file__).parent / "samples" / "datasets.json").read_text("utf-8"))
    described = {row["name"]: row for row in rows}
    assert [name for name, _, _ in list_datasets()] == list(described)
    assert all(summary and source for _, summary, source in list_datasets())
    names = find_benchmarks("samples")
    assert {row["name"] for row in rows if row["task"] != "train"} == set(names)
    for name in names:
        made = load_benchmark("samples", name)
        assert len(made.images) == described[name]["images"]
        assert made.images[len(made.images) - 1].mode == "RGB"
        if isinstance(made, Classification):
            assert len(made.classnames) == described[name]["classes"]
            shown = set(made.labels.tolist())
            assert made.shift_of or shown == set(range(len(made.classnames)))
