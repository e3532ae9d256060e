"""The legend of an overlay: swatches, names and shares in columns, below or beside the picture."""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from patchclip.dense.palette import Colour
from patchclip.errors import ConfigError

log = logging.getLogger(__name__)

MOST = 48
"""Entries of a legend; what is left is summed up in one more."""

SMALLEST, PART = 13, 58
"""Size of the letters in pixels: this at least, and the longer side over that."""

NAME, LINE = 15, 1.65
"""Widest name and height of a line, in sizes of the letters."""

TALL = 1.15
"""Height over width from which on the legend stands beside the picture."""

SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
)
"""Tried in this order for letters that Pillow's own font lacks."""

INK, SOFT, PAPER = "#1d1d1b", "#716f68", "white"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Entry:
    """One line: the colour (None for a hollow swatch), a number or "", the name, the share of the picture."""

    colour: Colour | None
    number: str
    name: str
    share: float


@dataclass(frozen=True)
class Layout:
    """Where the lines of a legend stand; lengths in pixels.

    Args:
        size: of the letters.
        rows: lines of a column.
        columns: of the legend.
        width: of a column.
    """

    size: int
    rows: int
    columns: int
    width: int

    @property
    def line(self) -> int:
        """Height of a line."""
        return round(LINE * self.size)

    @property
    def box(self) -> tuple[int, int]:
        """Width and height of the legend with its margins."""
        return self.columns * self.width + self.size, self.rows * self.line + self.size


def with_legend(picture: Image.Image, entries: Sequence[Entry], font: str | None = None) -> Image.Image:
    """The picture on a page with its legend: beside it if it is tall, else below.

    Args:
        picture: RGB.
        entries: the first 48 are shown.
        font: TrueType file, or None.

    Raises:
        ConfigError: a font that cannot be read.
    """
    entries = _shortened(entries)
    if not entries:
        return picture
    size = text_size(picture.size)
    letters = letters_for("".join(entry.name for entry in entries), size, font)
    beside = picture.height > TALL * picture.width
    layout = _layout(picture.size, size, _widths(entries, size, letters), beside)
    width, height = layout.box
    page_size = (
        (picture.width + width, max(picture.height, height))
        if beside
        else (max(picture.width, width), picture.height + height)
    )
    page = Image.new("RGB", page_size, PAPER)
    page.paste(picture)
    left, top = (picture.width, 0) if beside else (0, picture.height)
    draw = ImageDraw.Draw(page)
    for i, entry in enumerate(entries):
        x = left + size // 2 + i // layout.rows * layout.width
        y = top + size // 2 + i % layout.rows * layout.line
        _draw_entry(draw, entry, (x, y), layout, letters)
    return page


def text_size(picture: tuple[int, int]) -> int:
    """Size of the letters, in pixels, beside a picture of this size."""
    return max(SMALLEST, round(max(picture) / PART))


def share_text(share: float) -> str:
    """A share in per cent: 0.4213 -> 42%, 0.0421 -> 4.2%, 0.0001 -> <0.1%."""
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}"


def fitting(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    """The text, or as much of its beginning as fits into `width` with an ellipsis."""
    if draw.textlength(text, font) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if draw.textlength(text[:middle].rstrip() + "…", font) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def fitting_both(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    """The text, or as much of its beginning and end as fits into `width` with an ellipsis between them.

    Labels of one beginning, as "label number 12", stay apart. The end is a third of what is kept.
    """
    if draw.textlength(text, font) <= width:
        return text

    def cut(kept: int) -> str:
        end = kept // 3
        return text[: kept - end].rstrip() + "…" + (text[-end:].lstrip() if end else "")

    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if draw.textlength(cut(middle), font) <= width:
            low = middle
        else:
            high = middle - 1
    return cut(low)


def shown_of(entries: int) -> int:
    """How many of so many entries have a line of their own."""
    return entries if entries <= MOST else MOST - 1


def _shortened(entries: Sequence[Entry]) -> list[Entry]:
    if len(entries) <= MOST:
        return list(entries)
    rest = entries[shown_of(len(entries)) :]
    more = Entry(None, "", f"{len(rest)} more", sum(entry.share for entry in rest))
    return [*entries[: shown_of(len(entries))], more]


def _widths(entries: Sequence[Entry], size: int, font: Font) -> list[int]:
    """The width of a column that each entry needs, ascending; of the longest names less."""
    beside = 8.2 if any(entry.number for entry in entries) else 6.5  # swatch, number, share, gaps
    widths = (min(NAME * size, font.getlength(entry.name)) for entry in entries)
    return sorted(round(width + beside * size) for width in widths)


def _layout(picture: tuple[int, int], size: int, widths: Sequence[int], beside: bool) -> Layout:
    """As many columns as the picture is wide enough for, or as its height makes necessary.

    Columns are at least as wide as most entries need and, where there is room, as wide as all need.
    """
    count, most = len(widths), widths[int(0.85 * (len(widths) - 1))]
    if beside:
        rows = max(1, min(count, (picture[1] - size) // round(LINE * size)))
        columns = -(-count // rows)
        return Layout(size, -(-count // columns), columns, widths[-1])
    columns = max(1, min(count, (picture[0] - size) // most))
    rows = -(-count // columns)
    columns = -(-count // rows)
    return Layout(size, rows, columns, max(most, min(widths[-1], (picture[0] - size) // columns)))


def _draw_entry(
    draw: ImageDraw.ImageDraw, entry: Entry, place: tuple[int, int], layout: Layout, font: Font
) -> None:
    (x, y), size = place, layout.size
    side, middle = round(1.05 * size), y + layout.line // 2
    box = (x, middle - side // 2, x + side, middle - side // 2 + side)
    rim = max(1, size // 12)
    draw.rounded_rectangle(box, size // 5, entry.colour, entry.colour or SOFT, rim)
    number = f"{entry.number}  " if entry.number else ""
    share, plain = share_text(entry.share), ImageFont.load_default(size)
    left, right = x + round(1.55 * size), x + layout.width - round(1.8 * size)
    draw.text((right, middle), share, SOFT, plain, anchor="rm")
    if number:
        draw.text((left + 1.2 * size, middle), entry.number, SOFT, plain, anchor="rm")
        left += round(1.65 * size)
    room = right - left - draw.textlength(share, plain) - size // 2
    draw.text((left, middle), fitting_both(draw, entry.name, font, room), INK, font, anchor="lm")


def letters_for(text: str, size: int, chosen: str | None = None) -> Font:
    """The chosen font, or Pillow's own, or where that lacks a letter the first of the system's that has all.

    Raises:
        ConfigError: a chosen font that cannot be read.
    """
    if chosen is not None:
        try:
            return ImageFont.truetype(chosen, size)
        except OSError as error:
            raise ConfigError(f"font={chosen!r} cannot be read ({error}): name a TrueType file") from error
    own = ImageFont.load_default(size)
    if not _missing(own, text):
        return own
    for name in SYSTEM_FONTS:
        with contextlib.suppress(OSError):  # not installed here
            font = ImageFont.truetype(name, size)
            if not _missing(font, text):
                return font
    log.warning("no font here has all letters of the labels (%s): name one with font=", _missing(own, text))
    return own


def _missing(font: Font, text: str) -> str:
    """The letters that a font draws as the box for unknown ones."""
    unknown = bytes(font.getmask("\U0010ffff"))
    letters = sorted(set(text) - set(" \u00a0"))
    return "".join(
        letter for letter in letters if not letter.isascii() and bytes(font.getmask(letter)) == unknown
    )
