"""Masks in files: PNGs of class numbers, read as they are stored and checked against their image."""

import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image, UnidentifiedImageError

from patchclip.data._strings import Strings
from patchclip.data.layouts.stored_images import FileImages
from patchclip.errors import DataError

UNSCORED = -1
"""Class of a pixel that is not scored."""

_NO_CODE = -2
_LARGEST = 1 << 16
_GREY, _DEPTH, _COLOURS = 0, 24, 25  # PNG: colour type of grey, offsets of bit depth and colour type
_SCALES = {2: 85, 4: 17}  # Pillow spreads grey of 2 and 4 bits over 0 to 255
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_NUMBERS = ("1", "L", "P", "I;16", "I;16B", "I")


@dataclass(frozen=True, eq=False)
class Codes:
    """What the values in a mask file mean.

    Args:
        table: Class of every value from 0 on, -1 where it is not scored, -2 where it has no meaning.
        rule: The values with a meaning, for messages.
    """

    table: Int64[np.ndarray, "v"]
    rule: str

    @classmethod
    def of(cls, classes: Mapping[int, int]) -> "Codes":
        """The codes in which each value has a class in [0, c), or -1.

        Raises:
            DataError: A value is outside of 0 to 65535.
        """
        wrong = [value for value in classes if not 0 <= value < _LARGEST]
        if wrong:
            raise DataError(f"values in a mask must be in [0, {_LARGEST}), got {wrong[0]}")
        table = np.full(max(classes) + 1, _NO_CODE, np.int64)
        table[list(classes)] = list(classes.values())
        left = _ranges(value for value in classes if classes[value] == UNSCORED)
        rule = _ranges(value for value in classes if classes[value] != UNSCORED)
        return cls(table, f"{rule} (a class)" + (f" or {left} (not scored)" if left else ""))

    @classmethod
    def numbered(cls, count: int, first: int = 0, unscored: Iterable[int] = (255,)) -> "Codes":
        """The codes in which class i is first + i; of a value that is both, the class counts."""
        rest = dict.fromkeys([*range(first), *unscored], UNSCORED)
        return cls.of(rest | {first + label: label for label in range(count)})

    def classes_of(self, values: Int64[np.ndarray, "h w"], place: str) -> Int64[np.ndarray, "h w"]:
        """The class of every pixel.

        Raises:
            DataError: A value has no meaning.
        """
        known = (values >= 0) & (values < len(self.table))
        found = self.table[np.where(known, values, 0)]
        wrong = ~known | (found == _NO_CODE)
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise DataError(
                f"{place}: its values must be {self.rule}, got {values[row, column]} in column {column} "
                f"of row {row}, and so in {int(wrong.sum())} pixels"
            )
        return found


@dataclass(frozen=True, eq=False)
class FileMasks:
    """Masks in files of their own.

    Args:
        images: That they belong to, in the same order.
        folder: That holds the masks.
        names: Relative to the folder, with "/" between their parts.
        codes: What their values mean.
    """

    images: FileImages
    folder: Path
    names: Strings
    codes: Codes

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Int64[np.ndarray, "h w"]:
        path, image = self.folder / self.names[index], self.images.folder / self.images.names[index]
        try:
            values = read_values(path.read_bytes(), str(path))
        except OSError as error:
            raise DataError(f"{path}: the mask cannot be read: {error}") from error
        check_size(values, image_size(image, str(image)), str(path))
        return self.codes.classes_of(values, str(path))


def read_values(data: bytes, place: str) -> Int64[np.ndarray, "h w"]:
    """The numbers in a PNG: indices of a palette, or grey of 1 to 16 bits as stored.

    Args:
        data: The whole file.
        place: Its name, for messages.

    Raises:
        DataError: It is no PNG, is damaged, or holds colours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=("PNG",))
            image.load()
        except UnidentifiedImageError as error:
            raise DataError(f"{place}: a mask must be a PNG; other formats may change its numbers") from error
        except Exception as error:  # Pillow raises many types on damaged files
            raise DataError(
                f"{place}: the mask cannot be decoded ({type(error).__name__}: {error})"
            ) from error
    if image.mode not in _NUMBERS:
        raise DataError(
            f"{place}: a mask must hold one class number a pixel (palette or grey), got mode {image.mode}: "
            "replace its colours by class numbers"
        )
    values = np.array(image, np.int64)
    scale = _SCALES.get(data[_DEPTH], 1) if data[_COLOURS] == _GREY else 1
    return values // scale


def image_size(image: Path | bytes, place: str) -> tuple[int, int]:
    """Width and height of an image by its header, all that is read of a file.

    Raises:
        DataError: It is no image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = io.BytesIO(image) if isinstance(image, bytes) else image
            with Image.open(file, formats=_FORMATS) as opened:
                return opened.size
        except Exception as error:  # Pillow raises many types on damaged files
            raise DataError(
                f"{place}: the image of a mask cannot be read ({type(error).__name__})"
            ) from error


def check_size(values: Int64[np.ndarray, "h w"], size: tuple[int, int], place: str) -> None:
    """Raises DataError unless a mask has the (width, height) of its image."""
    height, width = values.shape
    if (width, height) != size:
        theirs = f"{size[0]} x {size[1]}"
        raise DataError(
            f"{place}: a mask must be of its image's size, {theirs} pixels, got {width} x {height}"
        )


def _ranges(values: Iterable[int]) -> str:
    """Numbers as text: "0 to 18, 255"."""
    found = set(values)
    starts = sorted(value for value in found if value - 1 not in found)
    ends = sorted(value for value in found if value + 1 not in found)
    pairs = zip(starts, ends, strict=True)
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in pairs)
