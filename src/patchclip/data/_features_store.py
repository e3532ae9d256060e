"""The shards behind data/features.py, each whole or absent; their index is in _features_index.py."""

import contextlib
import errno
import json
import os
import shutil
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from jaxtyping import Float16
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from patchclip.data._strings import Strings
from patchclip.errors import DataError

STALE = 600.0
"""Seconds without a write after which a half-written shard belongs to a process that was killed."""

_LONGEST_HEADER = 100_000_000  # safetensors' own limit
_FULL = (errno.ENOSPC, errno.EDQUOT)
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a damaged index or header raises."""


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
    """What a shard's header says.

    Attributes:
        offset: place of its first row.
        keys: of its pairs.
        sums: uint32 [n], the CRC-32 of each row.
        bad: why some rows are bad.
    """

    offset: int
    keys: Strings
    sums: NDArray[np.uint32]
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
    lists = {"keys": list(keys), "crc32": [zlib.crc32(row.numpy().data) for row in tokens], "bad": bad}
    facts = {"cache": f"{layout.name}/{number}"} | {name: json.dumps(each) for name, each in lists.items()}
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
        sums = np.array(json.loads(facts["crc32"]), np.uint32)
        if len(keys) != rows or sums.shape != (rows,) or not all(0 <= row < rows for row in bad):
            raise ValueError(f"it names {len(keys)} pairs with {sums.size} sums, not {rows}")
    except DAMAGE as error:
        raise DataError(
            f"{path} is no whole shard of this cache ({error}): delete it, and it is made again"
        ) from error
    return Shard(8 + length, keys, sums, bad)


def _check_tokens(stored: Any, shape: list[int], size: int) -> None:
    """Raises ValueError unless the one tensor of a shard is float16 of this shape and fills the file."""
    found = (stored["dtype"], stored["shape"], stored["data_offsets"])
    needed = 2 * shape[0] * shape[1] * shape[2]
    if found != ("F16", shape, [0, needed]):
        raise ValueError(f"it holds {stored['dtype']} {stored['shape']}, not F16 {shape}")
    if size != needed:
        raise ValueError(f"it holds {size:,} of {needed:,} bytes of tokens")


def read_row(path: Path, offset: int, shape: tuple[int, int], crc: int) -> Float16[Tensor, "l d"]:
    """The tokens of one image at a place of a file.

    Raises:
        OSError: the file cannot be read, ends before, or holds other bytes than were written.
    """
    tokens = torch.empty(shape, dtype=torch.float16)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        read = file.readinto(tokens.numpy().data)
    if read != tokens.nbytes:
        raise OSError(f"{path.name} ends within the tokens")
    if zlib.crc32(tokens.numpy().data) != crc:
        raise OSError(f"{path} is damaged, its CRC-32 differs: delete it, and it is made again")
    return tokens
