"""Masks beside the images of a webdataset set: objects by number, and a JSON that names them.

    KEY.inst.png    the number of the object at each pixel; 0 is background
    KEY.json        {"objects": [{"id": 1, "noun": "crown"}, {"id": 2, "noun": "compass"}]}

The classes are background and all nouns of the set, sorted; objects with one noun are one class.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from patchclip.data import _tar
from patchclip.data.layouts.segment_masks import Codes, check_size, image_size, read_values
from patchclip.data.layouts.stored_images import TarImages
from patchclip.data.layouts.text_files import field
from patchclip.data.sets import Benchmark, Segmented, Selection
from patchclip.errors import DataError

KIND = "masks"
"""What the masks of a set NAME are asked for by: NAME/masks."""

_MASK, _FACTS = "inst.png", "json"
_BACKGROUND = "background"
_LIMIT = 1 << 26


def has_masks(folder: Path) -> bool:
    """Whether the first sample of a set of shards has a mask and objects; one that is damaged has none."""
    for shard in sorted(folder.glob("*/0.tar")):
        try:
            parts = _first_sample(shard)
            return _MASK in parts and "objects" in _facts(shard, parts[_FACTS])
        except (DataError, OSError, KeyError, TypeError, _tar.CutError):
            return False
    return False


def open_masks(benchmark: Benchmark) -> Segmented:
    """The masks over the images of an open set of shards, named "NAME/masks".

    Raises:
        DataError: A sample has no mask or no objects, or its JSON is damaged.
    """
    images = benchmark.images
    if isinstance(benchmark, Selection | Segmented) or not isinstance(images, TarImages):
        raise DataError(f"{benchmark.name} has no masks beside its images: only sets of shards may have them")
    found = list(_samples(images))
    nouns = sorted({noun for _, _, objects in found for noun in objects.values()} - {_BACKGROUND})
    classnames = (_BACKGROUND, *nouns)
    label = {name: number for number, name in enumerate(classnames)}
    masks = TarMasks(
        images,
        np.array([place for place, _, _ in found], np.int64),
        np.array([size for _, size, _ in found], np.int64),
        tuple(Codes.of({0: 0} | {n: label[noun] for n, noun in each.items()}) for _, _, each in found),
    )
    names = tuple((name,) for name in classnames)
    return Segmented(f"{benchmark.name}/{KIND}", images, masks, classnames, names, background=0)


@dataclass(frozen=True, eq=False)
class TarMasks:
    """Masks in the tars of their images.

    Args:
        images: That they belong to.
        offsets: Of each mask's first byte in the tar of its image.
        sizes: In bytes.
        codes: Of each mask, what its values mean.
    """

    images: TarImages
    offsets: Int64[np.ndarray, "b"]
    sizes: Int64[np.ndarray, "b"]
    codes: tuple[Codes, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> Int64[np.ndarray, "h w"]:
        images = self.images
        path = images.folder / images.shards[images.shard[index]]
        name = images.names[index]
        place = f"{path}, {_key(name)}.{_MASK}"
        try:
            with path.open("rb") as file:
                body = os.pread(file.fileno(), int(self.sizes[index]), int(self.offsets[index]))
                image = os.pread(file.fileno(), int(images.sizes[index]), int(images.offsets[index]))
        except OSError as error:
            raise DataError(f"{place}: the mask cannot be read: {error}") from error
        values = read_values(body, place)
        check_size(values, image_size(image, f"{path}, {name}"), place)
        return self.codes[index].classes_of(values, place)


def _samples(images: TarImages) -> Iterator[tuple[int, int, dict[int, str]]]:
    """Of every image the place and size of its mask, and the nouns of its objects by their numbers."""
    number, parts = -1, dict[str, dict[str, _tar.Member]]()
    for index, name in enumerate(images.names):
        path = images.folder / images.shards[images.shard[index]]
        if images.shard[index] != number:
            number, parts = int(images.shard[index]), _parts(path)
        place = f"{path}, {_key(name)}"
        found = parts.get(_key(name), {})
        lacking = [ending for ending in (_MASK, _FACTS) if ending not in found]
        if lacking:
            raise DataError(
                f"{place}: it must have .{_MASK} and .{_FACTS} as the first sample of its set, "
                f"got no .{lacking[0]}"
            )
        mask = found[_MASK]
        yield mask.offset, mask.size, _objects(_facts(path, found[_FACTS]), f"{place}.{_FACTS}")


def _parts(path: Path) -> dict[str, dict[str, _tar.Member]]:
    """The masks and JSONs in a tar by their keys."""
    groups: dict[str, dict[str, _tar.Member]] = {}
    try:
        with path.open("rb") as file:
            for member in _tar.scan(file.fileno()):
                key, ending = _tar.split_key(member.name) or ("", "")
                if ending in (_MASK, _FACTS):
                    groups.setdefault(key, {})[ending] = member
    except (OSError, _tar.CutError) as error:
        raise DataError(f"{path} must be whole: {error}. Copy it again") from error
    return groups


def _facts(path: Path, member: _tar.Member) -> Any:
    place = f"{path}, {member.name}"
    if member.size > _LIMIT:
        raise DataError(f"{place}: it must be at most {_LIMIT} bytes, got {member.size}")
    try:
        with path.open("rb") as file:
            return json.loads(os.pread(file.fileno(), member.size, member.offset))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{place}: it must be JSON with objects ({error})") from error


def _objects(facts: Any, place: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for row in field(facts, "objects", list, place):
        number, noun = field(row, "id", int, place), " ".join(field(row, "noun", str, place).split())
        if number < 1 or number in found or not noun:
            raise DataError(
                f"{place}: each object must have a number from 1 on of its own and a noun, "
                f"got id {number}, noun {noun!r}"
            )
        found[number] = noun
    return found


def _first_sample(path: Path) -> dict[str, _tar.Member]:
    """The members of the first sample of a tar by their endings."""
    first, parts = "", dict[str, _tar.Member]()
    with path.open("rb") as file:
        for member in _tar.scan(file.fileno()):
            key, ending = _tar.split_key(member.name) or ("", "")
            if first and key != first:
                break
            if key:
                first = key
                parts[ending] = member
    return parts


def _key(name: str) -> str:
    return (_tar.split_key(name) or (name, ""))[0]
