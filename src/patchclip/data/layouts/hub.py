"""Evaluation sets in Hugging Face datasets: from the hub or its cache, saved to disk, or a folder of parquet.

    an Image column and a ClassLabel column                classification; names from the feature
    an Image column and a list of ClassLabel               multilabel
    an Image column and a text column or list of texts     retrieval
    image_0, image_1, caption_0, caption_1                 selection (Winoground)

A split whose labels are all -1 has none (ImageNet's "test") and is passed over for "validation". A folder may
hold classnames.txt and zeroshot_classification_templates.txt as an image folder does.

Differs: images are decoded by `data/_decode.py`, so that their pixels are those of every other layout.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patchclip.data import captions
from patchclip.data._decode import UnusableError
from patchclip.data._hub import library, picture_in
from patchclip.data.layouts.caption_lists import Captions
from patchclip.data.layouts.folders import DEFAULT_TEMPLATES, templates_of
from patchclip.data.layouts.text_files import read_lines
from patchclip.data.sets import Benchmark, Choice, Classification, Multilabel, Retrieval, Selection
from patchclip.errors import DataError

PREFIX = "hf:"
"""What the name of a dataset of the hub starts with."""

_SAVED = ("dataset_dict.json", "state.json")
_SPLITS = {
    "test": ("test", "validation", "val", "valid"),
    "val": ("validation", "val", "valid"),
    "train": ("train",),
}
_CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "sentences", "caption_str", "raw_captions")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_PAIRS = ("image_0", "image_1", "caption_0", "caption_1")


@dataclass(frozen=True, eq=False)
class RowImages:
    """The image columns of a dataset, row by row.

    Args:
        rows: A `datasets.Dataset` whose Image columns are not decoded.
        columns: That hold the images.
        state: Fingerprint of the dataset as it was loaded.
        name: Of the set, for messages.
    """

    rows: Any
    columns: tuple[str, ...]
    state: str
    name: str

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the dataset's own fingerprint and of the columns."""
        return sha256("\0".join((self.state, *self.columns)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __getitem__(self, index: int) -> Image.Image:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} must be in [0, {len(self)})")
        row, column = divmod(index % len(self), len(self.columns))
        try:
            return picture_in(self.rows[row][self.columns[column]])
        except UnusableError as error:
            raise DataError(f"{self.name}, row {row}, {self.columns[column]!r}: {error}") from error


def is_hub_folder(folder: Path) -> bool:
    """Whether a folder was written by save_to_disk, or holds parquet files itself or in data/."""
    saved = any((folder / file).is_file() for file in _SAVED)
    return saved or any(next(folder.glob(each), None) for each in ("*.parquet", "data/*.parquet"))


def open_hub_folder(folder: Path, name: str, split: str) -> Benchmark:
    """Opens one split of a folder.

    Raises:
        DataError: The package `datasets` is missing, there is no such split, or no columns that fit.
    """
    return _opened(folder, name, split)


def open_hub_name(name: str, split: str) -> Benchmark:
    """Opens one split of "hf:ORG/NAME" or "hf:ORG/NAME:CONFIG", from the hub or its cache.

    Raises:
        DataError: As above, or the dataset cannot be reached.
    """
    return _opened(None, name, split)


def _opened(folder: Path | None, name: str, split: str) -> Benchmark:
    first = ""
    failures = _failures()
    for candidate in _SPLITS.get(split, (split,)):
        try:
            rows = _load(folder, name, candidate)
        except failures as error:
            first = first or f"{type(error).__name__}: {error}"
            continue
        found = _benchmark(rows, folder, name)
        if isinstance(found, Classification):
            found = replace(found, opener=partial(_other_split, folder, name, candidate))
        if isinstance(found, Classification) and len(found) and (found.labels == -1).all():
            first = f"the labels of its split {candidate!r} are all -1, unknown"
            continue
        return found
    raise DataError(f"{name} has no split {split!r} that can be opened ({first})")


def _failures() -> tuple[type[Exception], ...]:
    """What `datasets` raises for a split that it cannot give; LookupError for one that was saved empty."""
    return OSError, ValueError, RuntimeError, LookupError, library().exceptions.DatasetsError


def _load(folder: Path | None, name: str, split: str) -> Any:
    datasets = library()
    if folder is None:
        path, _, config = name.removeprefix(PREFIX).partition(":")
        return datasets.load_dataset(path, config or None, split=split)
    if not any((folder / file).is_file() for file in _SAVED):
        return datasets.load_dataset(str(folder), split=split)
    loaded = datasets.load_from_disk(str(folder))
    if isinstance(loaded, datasets.Dataset):
        if split != "test":
            raise ValueError("it holds one split, which counts as 'test'")
        return loaded
    if split not in loaded:
        raise ValueError(f"it holds the splits {', '.join(loaded)}")
    return loaded[split]


def _benchmark(rows: Any, folder: Path | None, name: str) -> Benchmark:
    datasets, state = library(), rows._fingerprint
    if not len(rows):
        raise DataError(f"{name} must hold images: its split {str(rows.split)!r} is empty")
    rows, features = rows.with_format(None), rows.features
    images = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    for column in images:
        rows = rows.cast_column(column, datasets.Image(decode=False))
    if all(column in features for column in _PAIRS):
        return _winoground(rows, state, name)
    if not images:
        raise DataError(f"{name} must have a column of the type Image, got {features}")
    column = "image" if "image" in images else images[0]
    pictures = RowImages(rows.select_columns([column]), (column,), state, name)
    labels = _column(features, _LABEL_COLUMNS, _is_label)
    if labels is not None:
        return _labelled(rows, labels, pictures, folder)
    texts = _column(features, _CAPTION_COLUMNS, _is_text)
    if texts is None:
        raise DataError(
            f"{name} must have a column of the type ClassLabel, or captions in a column called "
            f"{', '.join(_CAPTION_COLUMNS)} or the only one of text; got {features}"
        )
    return Retrieval(name, pictures, Captions.of(_captions(rows, texts, name)))


def _column(features: Any, known: Sequence[str], fits: Any) -> str | None:
    """The column of a kind: the first of the known names, else the only one."""
    fitting = [column for column, kind in features.items() if fits(kind)]
    named = [column for column in known if column in fitting]
    return named[0] if named else fitting[0] if len(fitting) == 1 else None


def _is_label(kind: Any) -> bool:
    return isinstance(getattr(kind, "feature", kind), library().ClassLabel)


def _is_text(kind: Any) -> bool:
    return getattr(getattr(kind, "feature", kind), "dtype", "") in ("string", "large_string")


def _labelled(rows: Any, column: str, images: RowImages, folder: Path | None) -> Classification | Multilabel:
    kind, name = rows.features[column], images.name
    several = hasattr(kind, "feature")
    classnames = _classnames((kind.feature if several else kind).names, folder)
    templates = templates_of(folder) if folder else DEFAULT_TEMPLATES
    if several:
        hot = np.zeros((len(rows), len(classnames)), np.uint8)
        for number, found in enumerate(_values(rows, column)):
            hot[number, _checked(np.array(found or [], np.int64), len(classnames), number, name)] = 1
        return Multilabel(name, images, hot, classnames, templates)
    found = [-1 if label is None else label for label in _values(rows, column)]
    labels = np.array(found, np.int64)
    if not (labels == -1).all():
        _checked(labels, len(classnames), None, name)
    return Classification(name, images, labels, classnames, templates)


def _checked(labels: Any, classes: int, row: int | None, name: str) -> Any:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        place = int(wrong[0]) if row is None else row
        raise DataError(f"{name}, row {place}: a label must be in [0, {classes}), got {labels[wrong[0]]}")
    return labels


def _other_split(folder: Path | None, name: str, used: str, split: str) -> Classification | None:
    """Another split, never the one in use: what is evaluated as "test" is not to be trained on as "val"."""
    failures = _failures()
    for candidate in _SPLITS.get(split, (split,)):
        try:
            rows = _load(folder, name, candidate)
        except failures:
            continue
        found = _benchmark(rows, folder, name) if candidate != used else None
        if isinstance(found, Classification) and (found.labels >= 0).all():
            return replace(found, opener=partial(_other_split, folder, name, candidate))
        return None
    return None


def _classnames(names: Sequence[str], folder: Path | None) -> tuple[str, ...]:
    path = folder / "classnames.txt" if folder else None
    if path is None or not path.exists():
        return tuple(name.replace("_", " ").strip() or name for name in names)
    lines = tuple(read_lines(path, "one class name a line"))
    if len(lines) != len(names):
        raise DataError(f"{path} must have a line for each of the {len(names)} classes, got {len(lines)}")
    return lines


def _captions(rows: Any, column: str, name: str) -> Iterator[tuple[str, ...]]:
    for number, cell in enumerate(_values(rows, column)):
        found = captions.cleaned([cell] if isinstance(cell, str) else [text for text in cell or () if text])
        if not found:
            raise DataError(f"{name}, row {number}: {column!r} must hold a caption, got none")
        yield found


def _values(rows: Any, column: str) -> Iterator[Any]:
    """The cells of one column, read in blocks without touching the images."""
    for block in rows.select_columns([column]).iter(batch_size=4096):
        yield from block[column]


def _winoground(rows: Any, state: str, name: str) -> Selection:
    images = RowImages(rows.select_columns(list(_PAIRS[:2])), _PAIRS[:2], state, name)
    texts = zip(*(_captions(rows, column, name) for column in _PAIRS[2:]), strict=True)
    choices = tuple(
        Choice((2 * row, 2 * row + 1), (first[0], second[0])) for row, (first, second) in enumerate(texts)
    )
    return Selection(name, images, choices)
