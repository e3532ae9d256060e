"""The contact sheet of masks, as in the papers' figures: one row an image, one column a strategy."""

import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from patchclip.errors import ConfigError, DataError

MARGIN, GAP, LINE = 28, 10, 18
SMALLEST, WIDEST, PAGE = 150, 288, 1720
SMALL_TYPE = 10
INK, SOFT, RULE, BAR, TRACK = "#1d1d1b", "#716f68", "#dcd9d1", "#2f6f9f", "#ebe8e1"
FADE, VEIL = 0.1, (240.0, 238.0, 233.0)
"""A dropped patch is 0.1 of itself and 0.9 of this: not quite white, or white patches would seem kept."""
FORMATS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Column:
    """One column of the sheet: pictures of the same size below a title and a grey line."""

    title: str
    pictures: Sequence[Image.Image]
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One figure for each column but the first.

    Args:
        label: what is measured, in the first column.
        note: how to read it, in grey below.
        values: as text, one for each further column.
        bars: the same in [0, 1], drawn below the text; NaN draws no bar.
        marks: where each bar has a tick, for instance chance.
    """

    label: str
    note: str
    values: Sequence[str]
    bars: Sequence[float] = ()
    marks: Sequence[float] = ()


def cell_size(columns: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture: as large as so many columns leave room for, whole pixels a patch.

    Args:
        columns: of the sheet, the images' own included.
        grid: rows and columns of patches.
    """
    rows, across = grid
    room = min(max((PAGE - 2 * MARGIN) // columns - GAP, SMALLEST), WIDEST)
    side = max(1, room // max(rows, across))
    return across * side, rows * side


def enlarged(picture: UInt8[Tensor, "h w 3"], size: tuple[int, int]) -> Image.Image:
    """The picture in `size` = (width, height) pixels."""
    return Image.fromarray(picture.numpy()).resize(size, Image.Resampling.LANCZOS)


def faded(image: Image.Image, keep: Int64[Tensor, "k"], grid: tuple[int, int]) -> Image.Image:
    """The image with dropped patches faded to white: a dropped pixel is 0.1 of itself and 0.9 of the veil.

    Args:
        image: its sides are multiples of the grid's.
        keep: indices of the kept patches, row by row.
        grid: rows and columns of patches.
    """
    rows, across = grid
    shown = np.full(rows * across, FADE)
    shown[keep.numpy()] = 1.0
    cell = np.ones((image.height // rows, image.width // across))
    weight = np.kron(shown.reshape(rows, across), cell)[..., None]
    pixels = np.asarray(image, dtype=np.float64)
    return Image.fromarray((pixels * weight + np.array(VEIL) * (1 - weight)).round().astype(np.uint8))


def shrunk(
    picture: UInt8[Tensor, "h w 3"], small: tuple[int, int], grid: tuple[int, int], size: tuple[int, int]
) -> Image.Image:
    """What is left of a picture in `small` instead of `grid` patches, enlarged without smoothing.

    Args:
        picture: as the model receives it.
        small: rows and columns of patches of the smaller image.
        grid: rows and columns of patches of the model.
        size: (width, height) of the result in pixels.
    """
    image = Image.fromarray(picture.numpy())
    fewer = (round(image.width * small[1] / grid[1]), round(image.height * small[0] / grid[0]))
    return image.resize(fewer, Image.Resampling.BICUBIC).resize(size, Image.Resampling.NEAREST)


def draw_sheet(columns: Sequence[Column], lines: Sequence[Line] = (), caption: str = "") -> Image.Image:
    """Draws the sheet.

    Args:
        columns: the first holds the images, the others what each strategy leaves of them.
        lines: figures below the columns.
        caption: one grey sentence at the foot.

    Returns:
        An RGB picture on white.
    """
    width, height = columns[0].pictures[0].size
    notes = [_wrapped(column.note, width) for column in columns]
    most = max(len(note) for note in notes)
    head = MARGIN + 24 + most * LINE
    rows = len(columns[0].pictures)
    foot = head + rows * (height + GAP) - GAP
    page_width = 2 * MARGIN + len(columns) * (width + GAP) - GAP
    words = textwrap.wrap(caption, max(24, int((page_width - 2 * MARGIN) / 6.6)))
    figures = len(lines) * 52 + 22 if lines else 0
    page_height = foot + figures + (14 + len(words) * LINE if words else 0) + MARGIN
    page = Image.new("RGB", (page_width, page_height), "white")
    draw = ImageDraw.Draw(page)
    for x, column in enumerate(columns):
        left = MARGIN + x * (width + GAP)
        _draw_head(draw, column.title, notes[x], (left, width))
        for y, picture in enumerate(column.pictures):
            top = head + y * (height + GAP)
            page.paste(picture, (left, top))
            draw.rectangle((left - 1, top - 1, left + width, top + height), outline=RULE)
    for i, line in enumerate(lines):
        _draw_line(draw, line, (foot + 22 + i * 52, width))
    for i, text in enumerate(words):
        draw.text((MARGIN, foot + figures + 14 + i * LINE), text, SOFT, _font(13))
    return page


def save_sheet(page: Image.Image, path: str | Path) -> Path:
    """Writes a picture in the format of its suffix: .png, .webp, .jpg or .jpeg.

    Raises:
        ConfigError: another suffix.
        DataError: the file cannot be written there.
    """
    path = check_output(path)
    options: dict[str, dict[str, Any]] = {
        "PNG": {"optimize": True},
        "WEBP": {"quality": 88, "method": 5},
        "JPEG": {"quality": 92},
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    kind = FORMATS[path.suffix.lower()]
    try:
        page.save(partial, kind, **options[kind])
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): choose another place"
        ) from error
    return path


def check_output(path: str | Path) -> Path:
    """The path, if a sheet can be written there: tells early what would fail late."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"output={str(path)!r} must end in {', '.join(FORMATS)}: the suffix is the format")
    if path.is_dir():
        raise ConfigError(f"output={str(path)!r} is a folder: name a file in it, as {path}/masks.png")
    if not path.parent.is_dir():
        raise DataError(f"output={str(path)!r}: there is no folder {str(path.parent)!r}, create it first")
    return path


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _wrapped(note: str, width: int) -> list[str]:
    return textwrap.wrap(note, max(8, int(width / 7)), break_long_words=True)


def _fitting(draw: ImageDraw.ImageDraw, text: str, size: int, width: int) -> tuple[str, Font]:
    """The text in the largest font up to `size` that fits into `width`; cut if small type is too wide."""
    while size > SMALL_TYPE and draw.textlength(text, _font(size)) > width:
        size -= 1
    if draw.textlength(text, _font(size)) > width:
        while text and draw.textlength(f"{text}...", _font(size)) > width:
            text = text[:-1]
        text = f"{text}..."
    return text, _font(size)


def _draw_head(draw: ImageDraw.ImageDraw, title: str, notes: list[str], place: tuple[int, int]) -> None:
    """Title and notes, centred above the pictures; titles stand on one line."""
    left, width = place
    for i, (words, size, colour) in enumerate([(title, 18, INK), *((note, 13, SOFT) for note in notes)]):
        text, font = _fitting(draw, words, size, width)
        draw.text((left + width // 2, MARGIN + 12 + i * LINE), text, colour, font, anchor="ms")


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, place: tuple[int, int]) -> None:
    """A label, and below each column its value with a bar."""
    top, width = place
    right = MARGIN + (1 + len(line.values)) * (width + GAP) - GAP
    draw.line((MARGIN, top - 8, right, top - 8), RULE)
    for words, size, colour, below in ((line.label, 15, INK, 0), (line.note, 12, SOFT, 20)):
        text, font = _fitting(draw, words, size, width)
        draw.text((MARGIN, top + below), text, colour, font)
    for i, value in enumerate(line.values):
        left = MARGIN + (i + 1) * (width + GAP)
        draw.text((left + width // 2, top + 15), value, INK, _font(16), anchor="ms")
        if line.bars and not math.isnan(line.bars[i]):
            mark = line.marks[i] if line.marks else math.nan
            _draw_bar(draw, line.bars[i], mark, (left + width // 6, top + 25, width - 2 * (width // 6)))


def _draw_bar(draw: ImageDraw.ImageDraw, share: float, mark: float, place: tuple[int, int, int]) -> None:
    """A bar of `width` for 1, filled up to the share, with a tick at the mark."""
    left, top, width = place
    draw.rectangle((left, top, left + width, top + 4), TRACK)
    if share > 0:
        draw.rectangle((left, top, left + round(width * min(share, 1.0)), top + 4), BAR)
    if not math.isnan(mark):
        x = left + round(width * mark)
        draw.line((x, top - 2, x, top + 6), INK)
