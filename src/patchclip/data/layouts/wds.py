"""Evaluation sets in clip_benchmark's webdataset layout.

    NAME/classnames.txt                          one class name a line; line i is label i
    NAME/zeroshot_classification_templates.txt   one prompt a line with {c} for the class name
    NAME/dataset_type.txt                        "multilabel" or "retrieval"; absent or "classification" else
    NAME/SPLIT/nshards.txt                       number of shards
    NAME/SPLIT/0.tar, 1.tar, ...                 images with .cls (label), .npy (0 or 1 for each class), or
                                                 .txt (one caption a line)

Source: LAION CLIP_benchmark 1.6, `datasets/builder.py`, build_wds_dataset.
Differs: images are read in any order and the type in dataset_type.txt decides the task. A damaged shard, a
    label without a class, or an image without label or caption ends the opening of a set with an error. An
    image that cannot be decoded is found only when it is asked for.
"""

import io
import os
import warnings
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from patchclip.data import _tar, captions
from patchclip.data._decode import IMAGE_EXTENSIONS
from patchclip.data._strings import Packer
from patchclip.data.layouts.caption_lists import Captions
from patchclip.data.layouts.stored_images import TarImages
from patchclip.data.layouts.text_files import read_lines, read_templates, read_text
from patchclip.data.sets import Classification, Multilabel, Retrieval
from patchclip.errors import DataError
from patchclip.registry import closest

_LABEL_LIMIT, _CAPTIONS_LIMIT, _HEADER_LIMIT = 64, 1 << 20, 1 << 14
_SPLITS = {"val": ("val", "validation", "valid")}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

Opened = Classification | Multilabel | Retrieval


def is_wds_set(folder: Path) -> bool:
    """Whether a folder holds shards in this layout."""
    return any(folder.glob("*/nshards.txt"))


def open_wds_set(folder: Path, name: str, split: str) -> Opened:
    """Opens one split and checks its labels or captions.

    Raises:
        DataError: Its type, or one of its files, is missing, damaged or inconsistent.
    """
    kind_file = folder / "dataset_type.txt"
    rule = f"one of {', '.join(_KINDS)}"
    kind = read_text(kind_file, rule).strip().lower() if kind_file.exists() else "classification"
    if kind not in _KINDS:
        raise DataError(f"{kind_file} must hold {rule}, got {kind!r}: other tasks are not supported")
    return _KINDS[kind](folder, name, split)


def _classification(folder: Path, name: str, split: str) -> Classification:
    classnames, templates = _class_files(folder)
    index, labels = _Index(folder, split), array("q")
    for place, body in index.samples("cls", _LABEL_LIMIT):
        label = body.strip()
        if not label.isdigit() or int(label) >= len(classnames):
            got = label.decode("utf-8", "replace") or "nothing"
            raise DataError(
                f"{place}: its .cls must be a label in [0, {len(classnames)}), a line of classnames.txt, "
                f"got {got!r}"
            )
        labels.append(int(label))
    return Classification(
        *(name, index.images(), np.array(labels, np.int64), classnames, templates),
        opener=partial(_other_split, folder, name, split),
    )


def _other_split(folder: Path, name: str, used: str, split: str) -> Classification | None:
    for known in _SPLITS.get(split, (split,)):
        if known != used and (folder / known / "nshards.txt").exists():
            return _classification(folder, name, known)
    return None


def _multilabel(folder: Path, name: str, split: str) -> Multilabel:
    classnames, templates = _class_files(folder)
    index, rows = _Index(folder, split), bytearray()
    for place, body in index.samples("npy", _HEADER_LIMIT + 16 * len(classnames)):
        rows += _multi_hot(body, len(classnames), place).tobytes()
    labels = np.frombuffer(bytes(rows), np.uint8).reshape(-1, len(classnames))
    return Multilabel(name, index.images(), labels, classnames, templates)


def _multi_hot(body: bytes, classes: int, place: str) -> UInt8[np.ndarray, "c"]:
    """The labels in a .npy; its header is checked before NumPy makes room for what it announces."""
    rule = f"{place}: its .npy must hold one 0 or 1 for each of the {classes} lines of classnames.txt"
    stream = io.BytesIO(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
            if shape != (classes,) or dtype.kind not in "biuf":
                raise DataError(f"{rule}, got {dtype} of shape {tuple(shape)}")
            values = np.load(io.BytesIO(body), allow_pickle=False)
        except DataError:
            raise
        except Exception as error:  # NumPy parses the header as Python source: damage raises many types
            raise DataError(f"{rule}: it cannot be read ({type(error).__name__}: {error})") from error
    wrong = values[(values != 0) & (values != 1)]
    if len(wrong):
        raise DataError(f"{rule}, got {wrong[0]}")
    return values.astype(np.uint8)


def _retrieval(folder: Path, name: str, split: str) -> Retrieval:
    index, texts = _Index(folder, split), []
    for place, body in index.samples("txt", _CAPTIONS_LIMIT):
        try:
            found = captions.cleaned(body.decode("utf-8").splitlines())
        except UnicodeDecodeError as error:
            raise DataError(f"{place}: its .txt must be UTF-8 text ({error})") from error
        if not found:
            raise DataError(f"{place}: its .txt must hold captions, got none")
        texts.append(found)
    return Retrieval(name, index.images(), Captions.of(texts))


_KINDS: dict[str, Callable[[Path, str, str], Opened]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "retrieval": _retrieval,
}


def _class_files(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    classnames = tuple(read_lines(folder / "classnames.txt", "one class name a line"))
    return classnames, read_templates(folder / "zeroshot_classification_templates.txt")


class _Index:
    """Where the images of a split lie, collected while its samples are read in the order of the shards."""

    def __init__(self, folder: Path, split: str) -> None:
        self._folder = folder
        self._shards = _shard_names(folder, split)
        self._shard, self._offsets, self._sizes = array("i"), array("q"), array("q")
        self._names = Packer()

    def images(self) -> TarImages:
        """The images of the samples so far."""
        if not len(self._shard):
            raise DataError(f"{self._folder / self._shards[0]} must hold images: the split is empty")
        return TarImages(
            *(self._folder, tuple(self._shards), np.array(self._shard, np.int32)),
            *(np.array(self._offsets, np.int64), np.array(self._sizes, np.int64), self._names.packed()),
        )

    def samples(self, ending: str, limit: int) -> Iterator[tuple[str, bytes]]:
        """Every sample: where its image lies, for messages, and the bytes of another part, b"" if absent."""
        for number, shard in enumerate(self._shards):
            path = self._folder / shard
            if not path.exists():
                raise DataError(
                    f"{path} is missing, but counted in nshards.txt: copy it or correct the number"
                )
            fd = os.open(path, os.O_RDONLY)
            try:
                for key, parts in _groups(fd, path).items():
                    image = _image(parts, f"{path}, {key}")
                    self._shard.append(number)
                    self._offsets.append(image.offset)
                    self._sizes.append(image.size)
                    self._names.append(image.name)
                    place = f"{path}, {image.name}"
                    yield place, _body(fd, parts.get(ending), limit, place)
            finally:
                os.close(fd)


def _shard_names(folder: Path, split: str) -> list[str]:
    counted = folder / split / "nshards.txt"
    if not counted.exists():
        splits = sorted(path.parent.name for path in folder.glob("*/nshards.txt"))
        raise DataError(
            f"{folder.name} has no split {split!r} ({counted} is missing): {closest(split, splits)}"
        )
    text = read_text(counted, "the number of shards").strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 7 or int(text) < 1:
        raise DataError(f"{counted} must hold the number of shards, at least 1, got {text[:20]!r}")
    return [f"{split}/{number}.tar" for number in range(int(text))]


def _groups(fd: int, path: Path) -> dict[str, dict[str, _tar.Member]]:
    groups: dict[str, dict[str, _tar.Member]] = {}
    try:
        for member in _tar.scan(fd):
            key, extension = _tar.split_key(member.name) or ("", "")
            if extension:
                parts = groups.setdefault(key, {})
                if extension in parts:
                    raise DataError(f"{path}, {member.name}: it must be in the tar once, got it twice")
                parts[extension] = member
    except _tar.CutError as error:
        raise DataError(f"{path} must be whole: {error}. Copy it again") from error
    return groups


def _image(parts: dict[str, _tar.Member], place: str) -> _tar.Member:
    found = next((parts[end] for end in IMAGE_EXTENSIONS if end in parts), None)
    if found is None:
        raise DataError(f"{place}: it must have an image ({', '.join(IMAGE_EXTENSIONS)}), got none")
    return found


def _body(fd: int, member: _tar.Member | None, limit: int, place: str) -> bytes:
    if member is None:
        return b""
    if member.size > limit:
        raise DataError(f"{place}: {member.name} must be at most {limit} bytes, got {member.size}")
    return os.pread(fd, member.size, member.offset)
