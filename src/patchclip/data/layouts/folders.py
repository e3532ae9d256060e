"""Evaluation sets as folders of image files: a folder a class, or captions in a .txt beside each image.

    NAME/{test,val,train}/CLASS/*.jpg     or NAME/CLASS/*.jpg: classification
    NAME/{test,val,train}/*.jpg, *.txt    or NAME/*.jpg, *.txt: retrieval, one caption a line
    NAME/classnames.txt                   optional; line i is the name of the i-th folder
    NAME/zeroshot_classification_templates.txt   optional; one prompt a line with {c} for the class name

Labels count the class folders of all splits together, sorted by name. Without classnames.txt the folders'
names are the class names, "_" and "-" read as spaces; without templates there is one prompt, "a photo of a
{c}.".

Source: torchvision 0.29, `datasets/folder.py` (class order, order of images).
Differs: folders whose names are all numbers are sorted as numbers ("2" before "10": ImageNet-V2's folders are
    labels, which torchvision's order mixes up); a class folder may be empty; hidden files are passed over.
"""

import logging
import os
import re
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from patchclip.data import captions
from patchclip.data._decode import IMAGE_EXTENSIONS
from patchclip.data._strings import Packer
from patchclip.data.layouts.caption_lists import Captions
from patchclip.data.layouts.stored_images import FileImages
from patchclip.data.layouts.text_files import read_lines, read_templates, read_text
from patchclip.data.sets import Classification, Retrieval
from patchclip.errors import DataError

logger = logging.getLogger(__name__)

DEFAULT_TEMPLATES = ("a photo of a {c}.",)
"""The prompt of a set that brings none."""

SUFFIXES = tuple(f".{extension}" for extension in (*IMAGE_EXTENSIONS, "ppm", "pgm", "tif", "tiff"))
"""Of image files, in lower case."""

_SPLITS = {
    "test": ("test", "val", "validation", "valid"),
    "val": ("val", "validation", "valid"),
    "train": ("train", "training"),
}
_PARTS = tuple(dict.fromkeys(folder for folders in _SPLITS.values() for folder in folders))
_COCO_PART = re.compile(r"(train|val|test)\d{4}")
_CAPTIONS_LIMIT = 1 << 20


def is_class_folders(folder: Path) -> bool:
    """Whether a folder, or one of its splits, has at least two class folders, one of them with an image."""
    for base in [folder / part for part in _parts(folder)] or [folder]:
        classes = _folders(base)
        if len(classes) > 1 and any(_first_image(base / name) for name in classes):
            return True
    return False


def has_class_splits(folder: Path) -> bool:
    """Whether a folder is such a set by its splits: test, val or train inside it hold class folders."""
    return bool(_parts(folder)) and is_class_folders(folder)


def open_class_folders(folder: Path, name: str, split: str) -> Classification:
    """Opens one split.

    Raises:
        DataError: There is no such split, it has no image, or classnames.txt does not fit the folders.
    """
    found = _split(folder, name, None, split)
    if found is None:
        parts = ", ".join(_parts(folder)) or "no split of its own"
        raise DataError(f"{name} has no split {split!r}: {folder} has {parts}")
    return found


def _split(folder: Path, name: str, used: Path | None, split: str) -> Classification | None:
    """A split, None where the set has none of that name, or where it is the one in use.

    What is evaluated as "test" (the folder val, where there is no test) is not to be trained on as "val".
    """
    parts = _parts(folder)
    part = next((part for part in _SPLITS.get(split, (split,)) if part in parts), None)
    base = folder / part if part else folder
    if (part is None and (parts or split != "test")) or base == used:
        return None
    classes = class_folders([folder / each for each in parts] or [folder])
    files, labels = Packer(), array("q")
    for label, folder_name in enumerate(classes):
        for file in image_files(base / folder_name):
            files.append(f"{folder_name}/{file}")
            labels.append(label)
    if not len(labels):
        raise DataError(
            f"{base} must hold images ({', '.join(SUFFIXES)}) in class folders: the split is empty"
        )
    return Classification(
        *(name, FileImages(base, files.packed()), np.array(labels, np.int64)),
        *(_classnames(folder, classes), templates_of(folder)),
        opener=partial(_split, folder, name, base),
    )


def class_folders(bases: list[Path]) -> list[str]:
    """Names of the class folders inside any of the folders, in the order of the labels."""
    names = sorted({name for base in bases for name in _folders(base)})
    return sorted(names, key=int) if all(name.isascii() and name.isdigit() for name in names) else names


def _classnames(folder: Path, classes: list[str]) -> tuple[str, ...]:
    path = folder / "classnames.txt"
    if not path.exists():
        return tuple(" ".join(re.split(r"[_\-\s]+", name)).strip() or name for name in classes)
    names = tuple(read_lines(path, "one class name a line"))
    if len(names) != len(classes):
        first = f"from {classes[0]!r} to {classes[-1]!r}"
        raise DataError(
            f"{path} must have a line for each of the {len(classes)} class folders ({first}), "
            f"got {len(names)}"
        )
    return names


def templates_of(folder: Path) -> tuple[str, ...]:
    """The prompts in a set's own file, else `DEFAULT_TEMPLATES` itself."""
    path = folder / "zeroshot_classification_templates.txt"
    return read_templates(path) if path.exists() else DEFAULT_TEMPLATES


def is_captioned_folder(folder: Path) -> bool:
    """Whether a folder, or its split, holds images of which the first has a .txt beside it."""
    for base in (folder, *(folder / part for part in _parts(folder))):
        first = _first_image(base)
        if first is not None and first.with_suffix(".txt").is_file():
            return True
    return False


def open_captioned_folder(folder: Path, name: str, split: str) -> Retrieval:
    """Opens one split.

    Raises:
        DataError: There is no such split, it has no image, or an image has no caption.
    """
    parts = _parts(folder)
    part = next((part for part in _SPLITS.get(split, (split,)) if part in parts), None)
    if part is None and (parts or split != "test"):
        raise DataError(f"{name} has no split {split!r}: {folder} has {', '.join(parts) or 'one split'}")
    base = folder / part if part else folder
    files, texts = Packer(), []
    for file in image_files(base):
        path = (base / file).with_suffix(".txt")
        rule = "the captions of the image beside it, one a line"
        found = captions.cleaned(read_text(path, rule, _CAPTIONS_LIMIT).splitlines())
        if not found:
            raise DataError(f"{path} must hold {rule}: it is empty")
        files.append(file)
        texts.append(found)
    if not texts:
        raise DataError(f"{base} must hold images ({', '.join(SUFFIXES)}), each with a .txt: it is empty")
    return Retrieval(name, FileImages(base, files.packed()), Captions.of(texts))


def image_files(folder: Path) -> Iterator[str]:
    """Names of all images in a folder and below, relative to it, folder by folder in sorted order.

    A link to a folder that was read already, or that holds this one, is passed over: each image counts once.
    """
    start = len(str(folder)) + 1
    place = Path(os.path.realpath(folder))
    seen = {str(each) for each in (place, *place.parents)}
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [
            name for name in sorted(folders) if not name.startswith(".") and _is_new(f"{parent}/{name}", seen)
        ]
        above = parent[start:].replace(os.sep, "/")
        for name in sorted(files):
            if _is_image(name):
                yield f"{above}/{name}" if above else name


def _is_new(folder: str, seen: set[str]) -> bool:
    """Whether a folder was not met before under any name; notes it."""
    place = os.path.realpath(folder)
    if place in seen:
        logger.warning("%s is passed over: it is %s, which is read already or holds it", folder, place)
        return False
    seen.add(place)
    return True


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _first_image(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    with os.scandir(folder) as entries:
        return next(
            (Path(entry.path) for entry in entries if _is_image(entry.name) and entry.is_file()), None
        )


def _folders(base: Path) -> list[str]:
    """Class folders: those that can be seen and are not COCO's parts ("val2017")."""
    if not base.is_dir():
        return []
    with os.scandir(base) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    return sorted(name for name in names if name != "compositional" and not _COCO_PART.fullmatch(name))


def _parts(folder: Path) -> list[str]:
    return [part for part in _PARTS if (folder / part).is_dir()]
