"""Images of an evaluation set where they lie: inside tar shards, as files, or as boxes cut out of others."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64
from PIL import Image

from patchclip.data._decode import UnusableError, decode_image
from patchclip.data._strings import Strings
from patchclip.data.sets import Images
from patchclip.errors import DataError

_LARGEST = 1 << 30
_SAMPLE = 1 << 10


@dataclass(frozen=True, eq=False)
class TarImages:
    """Images inside uncompressed tars, four numbers each.

    Args:
        folder: Of the set.
        shards: Its tars, relative to the folder.
        shard: Tar of every image.
        offsets: Of its first byte in the tar.
        sizes: In bytes.
        names: Of the members.
    """

    folder: Path
    shards: tuple[str, ...]
    shard: Int32[np.ndarray, "b"]
    offsets: Int64[np.ndarray, "b"]
    sizes: Int64[np.ndarray, "b"]
    names: Strings

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the shards' place, names, sizes and times, what lies where in them, and some of it."""
        digest = _files_digest(self.folder, self.shards)
        ends = np.zeros(len(self.shards), np.int64)
        np.maximum.at(ends, self.shard, self.offsets + self.sizes)
        for shard, end in zip(self.shards, ends.tolist(), strict=True):
            digest.update(_read(self.folder / shard, 0, _SAMPLE))
            digest.update(_read(self.folder / shard, max(0, end - _SAMPLE), _SAMPLE))
        for table in (self.shard, self.offsets, self.sizes, self.names.ends, self.names.blob):
            digest.update(table.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:
        name, path = self.names[index], self.folder / self.shards[self.shard[index]]
        return _decoded(
            lambda: _read(path, int(self.offsets[index]), int(self.sizes[index])), f"{path}, {name}"
        )


@dataclass(frozen=True, eq=False)
class FileImages:
    """Images in files of their own.

    Args:
        folder: That holds them.
        names: Relative to the folder, with "/" between their parts.
    """

    folder: Path
    names: Strings

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the folder's path and the names, sizes and times of all files."""
        return _files_digest(self.folder, self.names).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Image.Image:
        path = self.folder / self.names[index]
        return _decoded(lambda: _read(path, 0, _LARGEST), str(path))


@dataclass(frozen=True, eq=False)
class CroppedImages:
    """Boxes cut out of images; the part of a box outside its image is black, as Pillow fills it.

    Args:
        whole: The images.
        source: Number of the image of every box.
        boxes: Left, top, right, bottom in pixels.
    """

    whole: Images
    source: Int64[np.ndarray, "b"]
    boxes: Int64[np.ndarray, "b 4"]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the images' fingerprint and of all boxes."""
        digest = sha256(self.whole.fingerprint.encode())
        digest.update(self.source.tobytes())
        digest.update(self.boxes.tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Image.Image:
        left, top, right, bottom = map(int, self.boxes[index])
        return self.whole[int(self.source[index])].crop((left, top, right, bottom))


def _files_digest(folder: Path, names: Sequence[str]) -> Any:
    """Hash of where files lie and what the file system says of them.

    Their content is not read. Two sets of files of equal sizes and times still differ by their folder, and a
    file that is overwritten and set back to its old time differs by the time of that change (ctime); a set
    that is copied or moved counts as another one.
    """
    digest = sha256(os.fsencode(folder.resolve()))
    for name in names:
        try:
            status = (folder / name).stat()
        except OSError as error:
            raise DataError(f"{folder / name} must stay where it was found: {error}") from error
        told = f"\0{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
        digest.update(told.encode("utf-8", "backslashreplace"))
    return digest


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(min(size, _LARGEST))


def _decoded(read: Callable[[], bytes], place: str) -> Image.Image:
    try:
        return decode_image(read())
    except (UnusableError, OSError) as error:
        raise DataError(f"{place}: {error}") from error
