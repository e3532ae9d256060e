"""A picture with its regions in translucent colours, thin smooth outlines and a legend beside it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Integer, UInt8
from PIL import Image

from patchclip.dense._legend import Entry, shown_of, with_legend
from patchclip.dense._marks import mark_places, with_marks
from patchclip.dense.palette import region_colour
from patchclip.errors import ConfigError

SMALL = 512
"""Pixels of the longer side below which a picture is drawn enlarged, a whole number of times."""

SKETCH = 1600
"""Pixels of the longer side at which borders are worked out at most; a larger picture gets them enlarged."""

SIGMA = 1.0
"""Width of the Gaussian that rounds the borders, in pixels of the sketch."""

HALO = 6
"""Pixels of the sketch around a part that its borders may depend on: of the Gaussian and of the enlarging."""

REACH = 2.5
"""Distance to a border up to which it is known, in sigmas."""

_AWAY = np.linspace(0, 3, 61)
_SURPLUS = np.array([math.erf(x / math.sqrt(2)) for x in _AWAY])

STRIP = 1 << 20
"""Pixels that are drawn at a time."""

LINE = (1.6, 1 / 640)
"""Width of an outline: pixels at least, and the share of the longer side."""

WHITE, OUTLINE = 255.0, 0.9
RIM = 2.5
"""Depth of the stronger colour along borders, in widths of an outline."""

GREYED = 0.7
"""How much of a region's own colour gives way to its lightness, so that what shows is the label's colour."""

MANY = 8
"""Labels up to which colours alone tell regions apart; of more, regions also carry their number."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the label map, of the sketch that borders are taken from, and of the drawing.

    Args:
        size: (height, width) of the label map.
        enlarged: pixels of the drawing for one of the label map.
        reduced: pixels of the label map for one of the sketch.
    """

    size: tuple[int, int]
    enlarged: int
    reduced: int

    @classmethod
    def of(cls, size: tuple[int, int]) -> "Scale":
        """The scale that suits a label map."""
        longest = max(size)
        return cls(size, max(1, -(-SMALL // longest)), -(-longest // SKETCH))

    @property
    def unit(self) -> int:
        """Pixels of the drawing for one of the sketch."""
        return self.enlarged * self.reduced

    @property
    def drawn(self) -> tuple[int, int]:
        """Width and height of the drawing."""
        return self.size[1] * self.enlarged, self.size[0] * self.enlarged

    @property
    def line(self) -> float:
        """Width of an outline in pixels of the drawing."""
        return max(LINE[0], LINE[1] * max(self.drawn))

    def strips(self) -> Iterator[tuple[int, int]]:
        """First and last row (exclusive) of the label map for each strip: whole rows of the sketch."""
        rows = max(1, STRIP // (self.size[1] * self.enlarged * self.unit)) * self.reduced
        for start in range(0, self.size[0], rows):
            yield start, min(start + rows, self.size[0])


def draw_overlay(
    image: Image.Image,
    label_map: Integer[np.ndarray, "h w"],
    labels: tuple[str, ...],
    opacity: float = 0.55,
    legend: bool = True,
    font: str | None = None,
) -> Image.Image:
    """Draws the regions over the picture, and the labels that occur below it, or beside it if it is tall.

    A label has the same colour in every picture. Borders are those of the label map rounded by a Gaussian
    of one pixel, so regions of one or two pixels do not show. Pictures below 512 pixels are enlarged; of
    more than 8 labels, regions carry the number that stands in the legend; it has 48 lines, and regions of
    labels that are summed up in its last one carry none.

    Args:
        image: RGB, of the label map's size.
        label_map: 0 for background, i for `labels[i - 1]`.
        labels: names.
        opacity: of the colours, in [0, 1].
        legend: whether to add it.
        font: TrueType file for the names; None for Pillow's own, or where that lacks a letter one of
            the system's.

    Raises:
        ConfigError: `opacity` out of range, or a font that cannot be read.
    """
    if not 0 <= opacity <= 1:
        raise ConfigError(f"opacity={opacity} must be in [0, 1]: how much of the colours is seen")
    scale = Scale.of(label_map.shape)  # type: ignore[arg-type]
    drawn = Image.new("RGB", scale.drawn)
    for start, stop in scale.strips():
        strip = _strip(image, label_map, scale, (start, stop), opacity)
        drawn.paste(Image.fromarray(strip), (0, start * scale.enlarged))
    pixels = np.bincount(label_map.ravel(), minlength=len(labels) + 1)
    present = sorted((value for value in np.flatnonzero(pixels).tolist() if value), key=lambda v: -pixels[v])
    numbered = len(present) > MANY
    if numbered:
        listed = present[: shown_of(len(present) + bool(pixels[0]))]
        places = mark_places(label_map, listed)
        marks = {str(i + 1): places[value] for i, value in enumerate(listed) if value in places}
        drawn = with_marks(drawn, marks)
    if not legend:
        return drawn
    entries = [
        Entry(
            region_colour(value),
            f"{i + 1}" if numbered else "",
            labels[value - 1],
            pixels[value] / pixels.sum(),
        )
        for i, value in enumerate(present)
    ]
    if pixels[0]:
        entries.append(Entry(None, "", "no label", pixels[0] / pixels.sum()))
    return with_legend(drawn, entries, font)


def enlarged_rows(image: Image.Image, scale: Scale, rows: tuple[int, int]) -> Image.Image:
    """Some rows of a picture at the drawing's size, as if it had been enlarged as a whole.

    Args:
        image: of the label map's size, any mode.
        scale: of the drawing.
        rows: first and last (exclusive) of the picture.
    """
    (start, stop), times = rows, scale.enlarged
    top, bottom = max(0, start - HALO), min(image.height, stop + HALO)
    part = image.crop((0, top, image.width, bottom))
    if times > 1:
        part = part.resize((part.width * times, part.height * times), Image.Resampling.BICUBIC)
    return part.crop((0, (start - top) * times, part.width, (stop - top) * times))


def _strip(
    image: Image.Image,
    label_map: Integer[np.ndarray, "h w"],
    scale: Scale,
    rows: tuple[int, int],
    opacity: float,
) -> UInt8[np.ndarray, "r c 3"]:
    """Some rows of the drawing."""
    colour, cover, away = _layers(label_map, scale, rows)
    line = (scale.line / 2 + 0.5 - away).clip(0, 1)
    rim = (1 - away / min(RIM * scale.line, REACH * SIGMA * scale.unit)).clip(0, 1)
    photo = np.asarray(enlarged_rows(image, scale, rows), dtype=np.float32)
    grey = photo @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    seen = photo + (GREYED * cover)[..., None] * (grey[..., None] - photo)
    seen += (opacity + (1 - opacity) * opacity * rim)[..., None] * (colour - cover[..., None] * seen)
    seen += (OUTLINE * line)[..., None] * (WHITE - seen)
    return seen.round().clip(0, 255).astype(np.uint8)


def _layers(
    label_map: Integer[np.ndarray, "h w"], scale: Scale, rows: tuple[int, int]
) -> tuple[Float32[np.ndarray, "r c 3"], Float32[np.ndarray, "r c"], Float32[np.ndarray, "r c"]]:
    """Colour times cover, cover in [0, 1] by any label, and pixels to the nearest border, for some rows.

    f_i is the share of label i around a pixel. x pixels from a straight border of two labels
    f_1 - f_2 = erf(x / (sqrt(2) sigma)), which gives x back to a fraction of a pixel.
    """
    start, stop = rows
    halo = HALO * scale.reduced
    top, bottom = max(0, start - halo), min(len(label_map), stop + halo)
    block = label_map[top:bottom]
    inside = slice((start - top) * scale.enlarged, (stop - top) * scale.enlarged)
    shape = (stop - start) * scale.enlarged, scale.drawn[0]
    colour, total = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
    cover, best, second = (np.zeros(shape, np.float32) for _ in range(3))
    slope = 0.4 / (SIGMA * scale.unit)
    for value in np.unique(block).tolist():
        share, columns = _share(block == value, scale)
        share = share[inside]
        part = np.s_[:, columns.start : columns.stop]
        weight = ((share - 0.5) / max(slope, 1e-6) + 0.5).clip(0, 1)
        total[part] += weight
        if value:
            cover[part] += weight
            colour[part] += weight[..., None] * np.array(region_colour(value), dtype=np.float32)
        second[part] = np.maximum(second[part], np.minimum(best[part], share))
        best[part] = np.maximum(best[part], share)
    total = np.maximum(total, 1e-6)
    away = np.interp(best - second, _SURPLUS, _AWAY * SIGMA * scale.unit).astype(np.float32)
    return colour / total[..., None], cover / total, away


def _share(mask: np.ndarray, scale: Scale) -> tuple[Float32[np.ndarray, "r c"], range]:
    """The blurred mask at the drawing's size, and the columns of the drawing that it is given for."""
    found = np.flatnonzero(mask.any(axis=0))
    margin = HALO * scale.reduced
    left = max(0, (int(found[0]) - margin) // scale.reduced * scale.reduced)
    right = min(mask.shape[1], -(-(int(found[-1]) + 1 + margin) // scale.reduced) * scale.reduced)
    part = Image.fromarray(mask[:, left:right].astype(np.uint8) * 255)
    height, width = (right - left, part.height)[::-1]
    sketch = _blurred(np.asarray(part.reduce(scale.reduced), dtype=np.float32) / 255)
    size = sketch.shape[1] * scale.unit, sketch.shape[0] * scale.unit
    large = Image.fromarray(sketch).resize(size, Image.Resampling.BICUBIC) if scale.unit > 1 else sketch
    columns = range(left * scale.enlarged, right * scale.enlarged)
    return np.asarray(large)[: height * scale.enlarged, : width * scale.enlarged], columns


def _blurred(values: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """A Gaussian of SIGMA; beyond its borders the picture goes on as it ends."""
    radius = int(3 * SIGMA)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / SIGMA) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        width = [(radius, radius) if other == axis else (0, 0) for other in (0, 1)]
        padded = np.pad(values, width, mode="edge")
        stop = values.shape[axis]
        values = sum(w * padded.take(range(i, i + stop), axis=axis) for i, w in enumerate(weights))
    return values
