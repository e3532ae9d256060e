"""Evaluation sets in clip_benchmark's webdataset layout, local or shipped with the package.

    ROOT/NAME/classnames.txt                          one class name a line; line i is label i
    ROOT/NAME/zeroshot_classification_templates.txt   one prompt a line with {c} for the class name
    ROOT/NAME/dataset_type.txt                        "retrieval"; absent or "classification" otherwise
    ROOT/NAME/SPLIT/nshards.txt                       number of shards
    ROOT/NAME/SPLIT/0.tar, 1.tar, ...                 images with .cls (label) or .txt (one caption a line)

Source: LAION CLIP_benchmark 1.6, `datasets/builder.py`, build_wds_dataset.
Differs: images are read in any order and the type in dataset_type.txt decides the task. A damaged shard, a
    label without a class, or an image without label or caption ends the opening of a set with an error. An
    image that cannot be decoded is found only when it is asked for: `set[i]` raises DataError, and the
    evaluation scores the set without it and lists it under `bad` in its result.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from patchclip.data import _tar, captions
from patchclip.data._decode import IMAGE_EXTENSIONS, UnusableError, decode_image
from patchclip.errors import DataError
from patchclip.registry import closest

_SHIPPED = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class _Place:
    """Where the bytes of an image lie."""

    path: Path
    name: str
    offset: int
    size: int

    def image(self) -> Image.Image:
        """The RGB image.

        Raises:
            DataError: It cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return decode_image(file.read(self.size))
        except (UnusableError, OSError) as error:
            raise DataError(f"{self.path}, {self.name}: {error}") from error


@dataclass(frozen=True)
class Classification:
    """Labelled images: `len(set)` and `set[i]` -> (RGB image, label).

    Attributes:
        name: Folder name.
        classnames: Name of every label.
        templates: Prompts with "{c}" for the class name.
    """

    name: str
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    entries: tuple[tuple[_Place, int], ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        place, label = self.entries[i]
        return place.image(), label


@dataclass(frozen=True)
class Retrieval:
    """Captioned images: `len(set)` and `set[i]` -> (RGB image, captions)."""

    name: str
    entries: tuple[tuple[_Place, tuple[str, ...]], ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> tuple[Image.Image, tuple[str, ...]]:
        place, texts = self.entries[i]
        return place.image(), texts


def benchmark_root(root: str | Path) -> Path:
    """The folder of a root; "samples" is the set that ships with the package."""
    return _SHIPPED / "test" if str(root) == "samples" else Path(root)


def find_benchmarks(root: str | Path) -> list[str]:
    """Names of the sets under a root, sorted: its folders that hold SPLIT/nshards.txt.

    Raises:
        DataError: The root is no folder or holds no set.
    """
    folder = benchmark_root(root)
    if not folder.is_dir():
        raise DataError(f"root={str(root)!r} must be a folder of evaluation sets: there is no such folder")
    names = sorted({path.parent.parent.name for path in folder.glob("*/*/nshards.txt")})
    if not names:
        raise DataError(
            f"root={str(root)!r} must hold evaluation sets (NAME/test/nshards.txt, NAME/test/0.tar), got none"
        )
    return names


def load_benchmark(root: str | Path, name: str, split: str = "test") -> Classification | Retrieval:
    """Opens one evaluation set and checks its labels and captions; images are decoded when asked for.

    Args:
        root: Folder of sets, or "samples".
        name: One of `find_benchmarks(root)`.
        split: Folder of the shards inside the set.

    Raises:
        DataError: The set, its type or one of its files is missing, damaged or inconsistent.
    """
    names = find_benchmarks(root)
    if name not in names:
        raise DataError(f"dataset {name!r} is not under {str(root)!r}: {closest(name, names)}")
    folder = benchmark_root(root) / name
    kind_file = folder / "dataset_type.txt"
    kind = kind_file.read_text("utf-8").strip() if kind_file.exists() else "classification"
    if kind not in _KINDS:
        kinds = " or ".join(_KINDS)
        raise DataError(f"{kind_file} must say {kinds}, got {kind!r}: other tasks are not supported")
    return _KINDS[kind](folder, split)


def list_datasets() -> list[tuple[str, str, str]]:
    """The sets that ship with the package as (name, summary, source)."""
    rows = json.loads((_SHIPPED / "datasets.json").read_text("utf-8"))
    return [(row["name"], _summary(row), row["source"]) for row in rows]


def _summary(row: dict[str, object]) -> str:
    classes = f", {row['classes']} classes" if row["classes"] else ""
    return f"{row['what']} ({row['task']}, {row['images']} images{classes})"


def _classification(folder: Path, split: str) -> Classification:
    classnames = _lines(folder / "classnames.txt", "one class name a line")
    templates = _lines(folder / "zeroshot_classification_templates.txt", "one prompt with {c} a line")
    wrong = [template for template in templates if "{c}" not in template]
    if wrong:
        raise DataError(f"templates of {folder.name} must contain {{c}} for the class name, got {wrong[0]!r}")
    entries = []
    for place, parts, read in _samples(folder, split):
        label = read(parts["cls"]).strip() if "cls" in parts else ""
        if not label.isdigit() or int(label) >= len(classnames):
            raise DataError(
                f"{place.path}, {place.name}: its .cls must be a label in [0, {len(classnames)}), a line of "
                f"classnames.txt, got {label or 'nothing'!r}"
            )
        entries.append((place, int(label)))
    return Classification(folder.name, classnames, templates, tuple(entries))


def _retrieval(folder: Path, split: str) -> Retrieval:
    entries = []
    for place, parts, read in _samples(folder, split):
        texts = captions.cleaned(read(parts["txt"]).splitlines()) if "txt" in parts else ()
        if not texts:
            raise DataError(f"{place.path}, {place.name}: its .txt must hold captions, got none")
        entries.append((place, texts))
    return Retrieval(folder.name, tuple(entries))


_KINDS: dict[str, Callable[[Path, str], Classification | Retrieval]] = {
    "classification": _classification,
    "retrieval": _retrieval,
}

_Parts = dict[str, _tar.Member]
_Read = Callable[[_tar.Member], str]


def _lines(path: Path, rule: str) -> tuple[str, ...]:
    try:
        lines = tuple(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} must exist, UTF-8, with {rule}: {error}") from error
    if not lines:
        raise DataError(f"{path} must hold {rule}: it is empty")
    return lines


def _samples(folder: Path, split: str) -> Iterator[tuple[_Place, _Parts, _Read]]:
    """Every sample of a set in the order of its shards: its image, its other parts and how to read them."""
    counted = folder / split / "nshards.txt"
    if not counted.exists():
        splits = sorted(path.parent.name for path in folder.glob("*/nshards.txt"))
        raise DataError(
            f"{folder.name} has no split {split!r} ({counted} is missing): {closest(split, splits)}"
        )
    text = counted.read_text("utf-8").strip()
    if not text.isdigit() or int(text) < 1:
        raise DataError(f"{counted} must hold the number of shards, at least 1, got {text!r}")
    for number in range(int(text)):
        yield from _shard(folder / split / f"{number}.tar")


def _shard(path: Path) -> Iterator[tuple[_Place, _Parts, _Read]]:
    if not path.exists():
        raise DataError(f"{path} is missing, but counted in nshards.txt: copy it or correct the number")
    fd = os.open(path, os.O_RDONLY)
    try:
        for key, parts in _groups(fd, path).items():
            image = next((parts[end] for end in IMAGE_EXTENSIONS if end in parts), None)
            if image is None:
                raise DataError(
                    f"{path}, {key}: it must have an image ({', '.join(IMAGE_EXTENSIONS)}), got none"
                )
            yield _Place(path, image.name, image.offset, image.size), parts, _reader(fd, path)
    finally:
        os.close(fd)


def _groups(fd: int, path: Path) -> dict[str, _Parts]:
    groups: dict[str, _Parts] = {}
    try:
        for member in _tar.scan(fd):
            key, extension = _tar.split_key(member.name) or ("", "")
            if extension:
                groups.setdefault(key, {})[extension] = member
    except _tar.CutError as error:
        raise DataError(f"{path} must be whole: {error}. Copy it again") from error
    return groups


def _reader(fd: int, path: Path) -> _Read:
    def read(member: _tar.Member) -> str:
        try:
            return os.pread(fd, member.size, member.offset).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, {member.name}: it must be UTF-8 text ({error})") from error

    return read
