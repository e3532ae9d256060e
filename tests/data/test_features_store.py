"""The files of kept patch tokens: what is damaged, of something else or too large is named with its cure."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from patchclip.contracts import BadSample, Pair
from patchclip.data import _features_index as index
from patchclip.data import _features_store as store
from patchclip.data.features import FeatureSource, Filling, open_features
from patchclip.errors import ConfigError, DataError
from tests.data._features import ROWS, SHARD_BYTES, Encode, check_rows, opened, pairs, pixels
from tests.data._make import ListSource


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SHARD_BYTES", SHARD_BYTES)


def test_what_a_killed_process_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".000000.safetensors.a.part", tmp_path / ".000000.safetensors.b.part"
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    check_rows(opened(tmp_path, pairs(5)), pairs(5))
    assert not old.exists()
    assert young.exists()


def test_a_missing_shard_alone_is_made_again(tmp_path: Path) -> None:
    source, encode = pairs(11), Encode()
    opened(tmp_path, source)
    (tmp_path / "000001.safetensors").unlink()
    with pytest.raises(DataError, match=r"1 of 3 shards are missing, first .*000001"):
        FeatureSource(source, tmp_path, "model-1")
    check_rows(opened(tmp_path, source, encode), source)
    assert encode.seen == 4


def test_another_model_is_refused(tmp_path: Path) -> None:
    source = pairs(5)
    opened(tmp_path, source)
    with pytest.raises(ConfigError, match=r"another model or preprocessing \(model-1 there, model-2 here\)"):
        open_features(source, tmp_path, "model-2", Encode(), pixels)


def test_other_images_are_refused(tmp_path: Path) -> None:
    opened(tmp_path, pairs(9))
    with pytest.raises(DataError, match=f"9 pairs, here are 8: name another folder, or delete {tmp_path}"):
        opened(tmp_path, pairs(8))
    moved = pairs(9)
    moved.read = lambda i: ListSource.read(moved, 8 - i)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="other images, pair 0 is 'k8' here and another picture, 'k0', there"):
        opened(tmp_path, moved)


def test_another_picture_of_the_same_name_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, pairs(9))
    changed = pairs(9)
    other = replace(ListSource.read(changed, 4), image=ListSource.read(changed, 5).image)
    changed.read = lambda i: other if i == 4 else ListSource.read(changed, i)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="pair 4 is 'k4' here and another picture, 'k4', there"):
        opened(tmp_path, changed)


def test_an_image_that_cannot_be_read_for_a_while_does_not_make_a_cache_another(tmp_path: Path) -> None:
    opened(tmp_path, pairs(9))
    kept = opened(tmp_path, pairs(9, bad=(0, 4)))
    assert isinstance(kept.read(0), Pair)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def headless(path: Path) -> None:
    path.write_bytes(b"\xff" * 200)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_place(path: Path) -> None:
    path.write_bytes(path.with_name("000000.safetensors").read_bytes())


def of_floats(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"F16"', b'"I16"'))


def sums(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with safe_open(path, "pt") as shard:
            facts, tokens = shard.metadata() | {"crc32": text}, shard.get_tensor("tokens")
        save_file({"tokens": tokens}, path, facts)

    return write


DAMAGE = [cut, grown, headless, empty, of_another_place, of_floats]
SUMS = [sums(text) for text in ("[1, 2, 3]", "[1, 2, 3, 1e400]", "null")]


@pytest.mark.parametrize("damage", DAMAGE + SUMS)
def test_a_damaged_shard_is_named(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    source = pairs(9)
    opened(tmp_path, source)
    path = tmp_path / "000001.safetensors"
    damage(path)
    for again in (lambda: opened(tmp_path, source), lambda: FeatureSource(source, tmp_path, "model-1")):
        with pytest.raises(DataError, match=r"000001.safetensors is no whole shard .* delete it"):
            again()
    path.unlink()
    check_rows(opened(tmp_path, source), source)


@pytest.mark.parametrize("bits", [(0x00, 0x7C), (0x01, 0x00), (0xFF, 0xFF)])
def test_a_flipped_bit_makes_its_row_bad(tmp_path: Path, bits: tuple[int, int]) -> None:
    source = pairs(9)
    opened(tmp_path, source)
    path = tmp_path / "000001.safetensors"
    body = bytearray(path.read_bytes())
    place = len(body) - SHARD_BYTES // ROWS - 2  # the last number of pair 6
    body[place : place + 2] = (byte ^ bit for byte, bit in zip(body[place:], bits, strict=False))
    path.write_bytes(body)
    kept = opened(tmp_path, source)
    why = f"{path} is damaged, its CRC-32 differs: delete it, and it is made again"
    assert kept.read(6) == BadSample("k6", f"its tokens cannot be read: {why}")
    assert all(isinstance(kept.read(i), Pair) for i in range(9) if i != 6)
    path.unlink()
    check_rows(opened(tmp_path, source), source)


NUMBERS = '{"format": 2, "dtype": "float16", "shape": [4, 3], "rows": %s, "pairs": 5, "images": {}}'


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2, "dtype": "float16"}', "null", NUMBERS % "1e400", NUMBERS % "NaN"]
)
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    opened(tmp_path, pairs(5))
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DataError, match=r"index.json cannot be used .* delete"):
        opened(tmp_path, pairs(5))


def test_a_cache_of_an_older_version_is_named(tmp_path: Path) -> None:
    opened(tmp_path, pairs(5))
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(DataError, match=r"format 1, float16; this version reads 2, .* delete"):
        opened(tmp_path, pairs(5))


def test_a_folder_that_is_no_cache_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no index\.json"):
        FeatureSource(pairs(5), tmp_path, "model-1")


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(store.shutil.disk_usage(tmp_path))(100, 90, 10)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)
    encode = Encode()
    with pytest.raises(DataError, match=r"needs 0\.00 GB for the tokens of 9 images, .* larger disk"):
        opened(tmp_path, pairs(9), encode)
    assert encode.seen == 1


def test_a_disk_that_fills_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, calls = pairs(11), []

    def full(fd: int) -> None:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(store.errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(DataError, match=r"000001.* \(No space left on device\): free .* GB and start again"):
        opened(tmp_path, source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.safetensors", "index.json"]
    monkeypatch.undo()
    encode = Encode()
    monkeypatch.setattr(index, "SHARD_BYTES", 1)  # rows a shard are those that the cache was begun with
    check_rows(opened(tmp_path, source, encode), source)
    assert encode.seen == 7


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/cache cannot be written"):
        opened(tmp_path / "file" / "cache", pairs(5))


def test_a_set_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 3 images, of 3, can be read; the last is k2: no\. 2"):
        opened(tmp_path, pairs(3, bad=(0, 1, 2)))


@pytest.mark.parametrize(
    "encode", [lambda colours: colours[:, :, 0, 0], lambda colours: torch.ones(1, 2, len(colours))]
)
def test_tokens_of_another_form_are_refused(tmp_path: Path, encode: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ConfigError, match="encode must make tokens"):
        open_features(pairs(5), tmp_path, "m", encode, pixels, Filling(batch_size=2))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}, {"rank": 1}])
def test_options_outside_their_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Filling(**wrong)
