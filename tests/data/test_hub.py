"""Pairs in Hugging Face datasets, built in memory."""

import builtins
import pickle
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from patchclip.contracts import BadSample, Pair
from patchclip.data.pairs import Columns, open_pairs
from patchclip.errors import DataError
from tests.data._make import colour, encoded, noisy


def facts(source: Any) -> list[tuple[Any, ...]]:
    pairs = [source.read(i) for i in range(len(source))]
    assert all(isinstance(pair, Pair) for pair in pairs)
    return [(pair.key, pair.captions, pair.image.mode, pair.image.getpixel((1, 1))) for pair in pairs]


def test_pictures_in_an_image_column() -> None:
    pictures = [Image.new("RGB", (8, 8), colour(i)) for i in range(3)] + [Image.new("L", (8, 8), 9)]
    made = datasets.Dataset.from_dict(
        {"image": pictures, "caption": ["a", " b", "c", "d"], "more": [1, 2, 3, 4]}
    )
    source = open_pairs(made)
    expected = [(f"row {i}", (text,), "RGB", colour(i)) for i, text in enumerate("abc")]
    assert facts(source) == [*expected, ("row 3", ("d",), "RGB", (9, 9, 9))]
    assert (source.captions, source.bad) == (4, ())
    assert facts(pickle.loads(pickle.dumps(source))) == facts(source)  # noqa: S301


@pytest.mark.parametrize("kind", ["path", "bytes", "typed path"])
def test_paths_and_bytes_and_lists_of_captions(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(5))
    made = datasets.Dataset.from_dict(
        {"picture": [encoded(5) if kind == "bytes" else str(path)], "texts": [["a", "", "b"]]}
    )
    if kind == "typed path":
        made = made.cast_column("picture", datasets.Image())
    source = open_pairs([made], columns=Columns("picture", "texts"))
    assert facts(source) == [("row 0", ("a", "b"), "RGB", colour(5))]
    assert source.captions is None


def test_a_cell_splits_into_several_captions() -> None:
    made = datasets.Dataset.from_dict({"image": [encoded(1), encoded(2)], "caption": ["a; b", "c"]})
    source = open_pairs(made, columns=Columns(caption_separator=";"))
    assert [row[1] for row in facts(source)] == [("a", "b"), ("c",)]
    assert source.captions is None


def test_a_cell_that_names_no_readable_file_is_one_bad_sample() -> None:
    made = datasets.Dataset.from_dict({"image": ["foo://x.png", "a\0.png"], "caption": ["a", "b"]})
    source = open_pairs(made)
    reasons = [getattr(source.read(i), "reason", "") for i in range(2)]
    assert "foo" in reasons[0]
    assert "null" in reasons[1]


def test_datasets_join_and_formats_do_not_matter() -> None:
    made = datasets.Dataset.from_dict({"image": [encoded(1), encoded(2)], "caption": ["a", "b"]})
    source = open_pairs([made.with_format("numpy"), made.select([1])])
    assert [row[1] for row in facts(source)] == [("a",), ("b",), ("b",)]


def test_unusable_rows_are_reported() -> None:
    made = datasets.Dataset.from_dict(
        {"image": [encoded(0), noisy()[:-90], None, b"gone.png"], "caption": ["", "b", "c", None]}
    )
    source = open_pairs(made)
    found = [source.read(i) for i in range(4)]
    assert all(isinstance(bad, BadSample) for bad in found)
    assert found[0] == found[3].__class__("row 0", "its caption is empty")
    assert "truncated" in found[1].reason  # type: ignore[union-attr]
    assert found[2] == BadSample("row 2", "there is no image in its cell")
    paths = datasets.Dataset.from_dict({"image": ["gone.png"], "caption": ["a"]})
    assert open_pairs(paths).read(0) == BadSample("row 0", "the image file does not exist")


def test_names_are_passed_on_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    made = datasets.Dataset.from_dict({"image": [encoded(1)], "caption": ["a"]})
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, split: asked.append((*names, split)) or made)
    assert len(open_pairs(["hf:org/name", "hf:org/name:fr"], split="validation")) == 2
    assert asked == [("org/name", None, "validation"), ("org/name", "fr", "validation")]


def test_a_local_dataset_is_loaded_by_name_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = datasets.Dataset.from_dict({"image": [encoded(1), encoded(2)], "caption": ["a", "b"]})
    (tmp_path / "set").mkdir()
    made.to_parquet(tmp_path / "set" / "train.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert len(open_pairs(f"hf:{tmp_path}/set")) == 2
    with pytest.raises(DataError, match="split='nosplit' cannot be loaded"):
        open_pairs(f"hf:{tmp_path}/set", split="nosplit")


def test_what_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = datasets.Dataset.from_dict({"img": [encoded(1)], "caption": ["a"]})
    with pytest.raises(DataError, match="column 'image' must exist in the dataset: did you mean 'img'"):
        open_pairs(made)
    with pytest.raises(DataError, match="got DatasetDict: choose a split"):
        open_pairs(datasets.DatasetDict(train=made))
    with pytest.raises(DataError, match="got IterableDataset"):
        open_pairs(made.to_iterable_dataset())
    original = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'patchclip\[hf\]'"):
        open_pairs(made)
