"""The files behind data/features.py: an index of what made them, and shards, each whole or absent."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from jaxtyping import Float16
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from patchclip.contracts import BadSample
from patchclip.data._strings import Strings
from patchclip.data.pairs import PairSource
from patchclip.errors import ConfigError, DataError

FORMAT = 1
PROBES = 16
"""Images, spread over the pairs, by which a cache knows them again."""

SHARD_BYTES = 1 << 27
"""Size of a shard: what an interruption costs at most; filling holds about four in memory."""

MOST_ROWS = 1 << 14
STALE = 600.0
"""Seconds without a write after which a half-written shard belongs to a process that was killed."""

_LONGEST_HEADER = 100_000_000  # safetensors' own limit
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of each pair lie: row i % rows of shard i // rows.

    Args:
        folder: of the shards.
        name: of what the tokens are made of; each shard holds it.
        pairs: in all.
        shape: patches l and width d of the tokens of one image.
        rows: images of a shard; the last one holds the rest.
    """

    folder: Path
    name: str
    pairs: int
    shape: tuple[int, int]
    rows: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return self.shape[0] * self.shape[1] * 2

    @property
    def shards(self) -> int:
        """Shards of a full cache."""
        return -(-self.pairs // self.rows)

    def path(self, number: int) -> Path:
        """File of a shard."""
        return self.folder / f"{number:06d}.safetensors"

    def span(self, number: int) -> range:
        """Pairs of a shard."""
        return range(number * self.rows, min(self.pairs, (number + 1) * self.rows))

    def missing(self) -> list[int]:
        """Shards that are not there; the others are held against the layout.

        Raises:
            DataError: a shard is damaged or of another cache.
        """
        absent = [number for number in range(self.shards) if not self.path(number).exists()]
        for number in sorted(set(range(self.shards)) - set(absent)):
            read_shard(self, number)
        return absent

    def check_space(self, missing: Sequence[int]) -> None:
        """Raises DataError if the disk cannot hold the missing shards."""
        images = sum(len(self.span(number)) for number in missing)
        needed = images * self.row_bytes
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"{self.folder} needs {needed / 1e9:.2f} GB for the tokens of {images:,} images, but "
                f"{free / 1e9:.2f} GB are free: name a folder on a larger disk, or use fewer pairs"
            )


@dataclass(frozen=True)
class Shard:
    """What a shard's header says: place of its first row, keys of its pairs, why some rows are bad."""

    offset: int
    keys: Strings
    bad: dict[int, str]


def write_shard(
    layout: Layout, number: int, tokens: Float16[Tensor, "n l d"], keys: Sequence[str], bad: dict[int, str]
) -> None:
    """Writes a shard under another name, and gives it its own when all of it is on the disk.

    Raises:
        DataError: it cannot be written; the disk may be full.
    """
    path = layout.path(number)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    facts = {"cache": f"{layout.name}/{number}", "keys": json.dumps(list(keys)), "bad": json.dumps(bad)}
    try:
        for old in layout.folder.glob(f".{path.name}.*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > STALE:
                    old.unlink()
        try:
            with part.open("wb") as file:
                file.write(save({"tokens": tokens}, facts))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        left = sum(
            layout.row_bytes * len(layout.span(each))
            for each in range(layout.shards)
            if not layout.path(each).exists()
        )
        cure = f"free {left / 1e9:.2f} GB" if error.errno in _FULL else "see to it"
        raise DataError(
            f"{path} cannot be written ({error.strerror}): {cure} and start again, the shards there are kept"
        ) from error


def read_shard(layout: Layout, number: int) -> Shard:
    """The header of a shard, held against the layout and the size of the file.

    Raises:
        DataError: the file is damaged, cut or of another cache.
    """
    path, rows = layout.path(number), len(layout.span(number))
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _LONGEST_HEADER:
                raise ValueError("it does not begin as a safetensors file")
            header = json.loads(file.read(length))
            size = os.fstat(file.fileno()).st_size
        facts = header["__metadata__"]
        if facts["cache"] != f"{layout.name}/{number}":
            raise ValueError("it belongs to another cache or place")
        _check_tokens(header["tokens"], [rows, *layout.shape], size - 8 - length)
        keys = Strings.of(json.loads(facts["keys"]))
        bad = {int(row): str(reason) for row, reason in json.loads(facts["bad"]).items()}
        if len(keys) != rows or not all(0 <= row < rows for row in bad):
            raise ValueError(f"it names {len(keys)} pairs, not {rows}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is no whole shard of this cache ({error}): delete it, and it is made again"
        ) from error
    return Shard(8 + length, keys, bad)


def _check_tokens(stored: Any, shape: list[int], size: int) -> None:
    """Raises ValueError unless the one tensor of a shard is float16 of this shape and fills the file."""
    found = (stored["dtype"], stored["shape"], stored["data_offsets"])
    needed = 2 * shape[0] * shape[1] * shape[2]
    if found != ("F16", shape, [0, needed]):
        raise ValueError(f"it holds {stored['dtype']} {stored['shape']}, not F16 {shape}")
    if size != needed:
        raise ValueError(f"it holds {size:,} of {needed:,} bytes of tokens")


def read_row(path: Path, offset: int, shape: tuple[int, int]) -> Float16[Tensor, "l d"]:
    """The tokens of one image at a place of a file.

    Raises:
        OSError: the file cannot be read, or ends before.
    """
    tokens = torch.empty(shape, dtype=torch.float16)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        read = file.readinto(tokens.numpy().data)
    if read != tokens.nbytes:
        raise OSError(f"{path.name} ends within the tokens")
    return tokens


def index_of(folder: Path) -> Path:
    return folder / "index.json"


def begin(folder: Path, source: PairSource, fingerprint: str, shape: Callable[[], tuple[int, int]]) -> None:
    """Writes the index of a new cache."""
    patches, width = shape()
    index = {
        "format": FORMAT,
        "model": fingerprint,
        "dtype": "float16",
        "shape": [patches, width],
        "rows": min(MOST_ROWS, max(1, SHARD_BYTES // (2 * patches * width))),
        "pairs": len(source),
        "images": {str(i): each for i in spread(len(source), PROBES) if (each := _seen(source, i))},
    }
    part = index_of(folder).with_suffix(f".{os.getpid()}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(index, indent=1), encoding="utf-8")
        part.replace(index_of(folder))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}): name a folder that can") from error


def open_layout(folder: Path, source: PairSource, fingerprint: str) -> Layout:
    """Where tokens lie, if the folder's are those of this model and these images.

    Raises:
        ConfigError: they are of another model or preprocessing.
        DataError: they are of other images, or there is no index that can be read.
    """
    index = _read_index(folder)
    cure = f"name another folder, or delete {folder}"
    if index.model != fingerprint:
        raise ConfigError(
            f"{folder} holds tokens of another model or preprocessing ({index.model} there, {fingerprint} "
            f"here): {cure}"
        )
    if index.pairs != len(source):
        raise DataError(f"{folder} holds tokens of {index.pairs:,} pairs, here are {len(source):,}: {cure}")
    for i, before in index.images.items():
        now = _seen(source, i)
        if now is not None and now != before:
            raise DataError(
                f"{folder} holds tokens of other images, pair {i} is {now[0]!r} here and another picture, "
                f"{before[0]!r}, there: {cure}"
            )
    name = hashlib.sha256(json.dumps(astuple(index)).encode()).hexdigest()[:16]
    return Layout(folder, name, index.pairs, index.shape, index.rows)


@dataclass(frozen=True)
class _Index:
    """What a cache was made of; keys and digests of some images by their number."""

    model: str
    shape: tuple[int, int]
    rows: int
    pairs: int
    images: dict[int, list[str]]


def _read_index(folder: Path) -> _Index:
    path = index_of(folder)
    try:
        stored = json.loads(path.read_text("utf-8"))
        kind = (stored["format"], stored["dtype"])
        if kind != (FORMAT, "float16"):
            raise ValueError(f"format {kind[0]}, {kind[1]}; this version reads {FORMAT}, float16")
        numbers = (*stored["shape"], stored["rows"], stored["pairs"])
        patches, width, rows, pairs = (int(number) for number in numbers)
        images = {int(i): [str(key), str(digest)] for i, (key, digest) in stored["images"].items()}
        if min(patches, width, rows, pairs) < 1 or not all(0 <= i < pairs for i in images):
            raise ValueError(f"{pairs} pairs of {patches} x {width}, {rows} a shard")
        return _Index(str(stored["model"]), (patches, width), rows, pairs, images)
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no index.json: it is no cache of patch tokens") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} cannot be used ({error}): delete {folder}, and it is made again") from error


def _seen(source: PairSource, i: int) -> list[str] | None:
    """Key and digest of the picture of pair i, None where it cannot be read."""
    pair = source.read(i)
    if isinstance(pair, BadSample) or not isinstance(pair.image, Image.Image):
        return None
    found = hashlib.sha256(repr(pair.image.size).encode() + pair.image.tobytes())
    return [pair.key, found.hexdigest()[:16]]


def spread(n: int, count: int) -> list[int]:
    """At most `count` numbers from 0 to n - 1, at equal distances, both ends among them."""
    count = min(n, count)
    return [i * (n - 1) // max(1, count - 1) for i in range(count)]
