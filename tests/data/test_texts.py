"""Every source gives captions and keys without reading images."""

from pathlib import Path

import datasets
import pytest

from patchclip.contracts import Pair
from patchclip.data import _folder, _hub, _shards, _table
from patchclip.data.pairs import Columns, open_pairs
from tests.data._make import encoded, sample, write_tar


def folder(root: Path) -> Path:
    for number in range(3):
        (root / f"{number}.png").write_bytes(encoded(number))
        (root / f"{number}.txt").write_text(f"picture {number}\n another  one\n", "utf-8")
    return root


def table(root: Path) -> Path:
    folder(root)
    path = root / "pairs.csv"
    path.write_text("image,caption\n0.png,zero|nought\n1.png,one\n2.png,two\n", "utf-8")
    return path


def tars(root: Path) -> Path:
    write_tar(root / "0.tar", [*sample(0), *sample(1, ["a", "b  c"])])
    write_tar(root / "1.tar", sample(2))
    return root / "*.tar"


def hub(root: Path) -> datasets.Dataset:
    path = folder(root) / "0.png"
    return datasets.Dataset.from_dict({"image": [str(path)] * 3, "caption": ["a|b ", " c", "d"]})


KINDS = {"folder": folder, "table": table, "tars": tars, "hub": hub}


@pytest.mark.parametrize("kind", KINDS)
def test_captions_are_those_of_the_pair_and_no_image_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = KINDS[kind](tmp_path)
    named = made if kind == "hub" else str(made)
    source = open_pairs(named, columns=Columns(caption_separator="|"), cache=tmp_path / "cache")
    joined = open_pairs([named, named], columns=Columns(caption_separator="|"), cache=tmp_path / "cache")
    pairs = [source.read(i) for i in range(3)]
    assert all(isinstance(pair, Pair) for pair in pairs)
    for module in (_folder, _hub, _shards, _table):
        monkeypatch.delattr(module, "decode_image")
    assert [source.texts(i) for i in range(3)] == [pair.captions for pair in pairs]
    assert joined.texts(4) == pairs[1].captions
    assert [joined.key(i) for i in range(6)] == [source.key(i) for i in range(3)] * 2
    assert [source.key(i) for i in range(3)] == [pair.key for pair in pairs]


def test_captions_that_cannot_be_used_are_none(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", sample(0))
    source = open_pairs(str(tar), cache=tmp_path / "cache")
    tar.write_bytes(b"")  # cut after it was indexed
    assert source.texts(0) == ()
    (tmp_path / "b").mkdir()
    lonely = folder(tmp_path / "b")
    found = open_pairs(str(lonely))
    (lonely / "1.txt").unlink()
    assert [found.texts(i) for i in range(2)] == [("picture 0", "another one"), ()]
