"""Colours: of label maps as Pascal VOC stores them, of regions on a picture, of heat."""

import colorsys
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, UInt8

Colour = tuple[int, int, int]

REGIONS: tuple[Colour, ...] = (
    *((225, 30, 30), (0, 120, 255), (255, 195, 0), (0, 225, 255), (150, 30, 150), (255, 135, 135)),
    *((165, 150, 255), (225, 75, 165), (180, 255, 165), (105, 45, 210), (195, 150, 0), (165, 45, 75)),
    *((180, 105, 210), (0, 195, 165), (0, 150, 90), (120, 90, 195), (135, 225, 120), (15, 45, 255)),
    *((165, 75, 135), (240, 240, 60), (255, 75, 105), (90, 255, 240), (255, 150, 210), (75, 120, 0)),
)
"""Colours of the first labels.

Each is the farthest, in OKLab, from those before it, where the distance of two colours is the least of what
an eye with all cones and eyes without red, green or blue ones see (Machado et al., IEEE TVCG 15(6), 2009).
"""

DISTINCT = 256
"""Labels up to which each colour is the farthest from those before it; beyond, colours may nearly repeat."""

GREYS = (0.38, 0.93)
"""OKLab lightness of further colours: seen on white paper and under a white outline."""

GOLDEN = 0.61803398875
"""Part of the circle of hues between one colour beyond `DISTINCT` and the next."""

CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
MIXED = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
"""From linear RGB to cones, and from their cube roots to OKLab."""

INFERNO = (
    *((0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85)),
    *((227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164)),
)
"""Anchors of matplotlib's "inferno" (van der Walt and Smith, CC0): lightness rises evenly, in grey too."""


def region_colour(label: int) -> Colour:
    """The colour of a label on a picture, always the same for its number.

    Labels 25 to 256 have the colour, of a grid of steps of 15, that is farthest in OKLab from all before it,
    for eyes with all cones alone: distances are at least 0.08 up to label 48, 0.05 up to 128. Beyond 256
    hues go round by the golden ratio and may nearly repeat.

    Args:
        label: 1 for the first label, as in a label map.
    """
    if label <= len(REGIONS):
        return REGIONS[label - 1]
    if label <= DISTINCT:
        return _further()[label - len(REGIONS) - 1]
    further = label - DISTINCT - 1
    red, green, blue = colorsys.hls_to_rgb(further * GOLDEN % 1.0, (0.42, 0.58, 0.72)[further % 3], 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


@lru_cache(maxsize=1)
def _further() -> tuple[Colour, ...]:
    """The colours of labels 25 to 256."""
    steps = np.arange(0, 256, 15)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    places = _oklab(grid)
    seen = (places[:, 0] >= GREYS[0]) & (places[:, 0] <= GREYS[1])
    grid, places = grid[seen], places[seen]
    apart = np.full(len(grid), np.inf)
    for taken in _oklab(np.array(REGIONS)):
        apart = np.minimum(apart, np.linalg.norm(places - taken, axis=1))
    found: list[Colour] = []
    for _ in range(DISTINCT - len(REGIONS)):
        best = int(apart.round(9).argmax())
        red, green, blue = grid[best].tolist()
        found.append((red, green, blue))
        apart = np.minimum(apart, np.linalg.norm(places - places[best], axis=1))
    return tuple(found)


def _oklab(colours: np.ndarray) -> Float64[np.ndarray, "n 3"]:
    """Lightness, green to red and blue to yellow.

    Source: Ottosson, "A perceptual color space for image processing", 2020.
    """
    values = colours / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    found: Float64[np.ndarray, "n 3"] = np.cbrt(linear @ np.array(CONES).T) @ np.array(MIXED).T
    return found


def voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """The colours of Pascal VOC's masks by label: black for 0; bits of the label spread over the channels.

    Source: Everingham et al., Pascal VOC development kit, VOClabelcolormap.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((labels >> channel & 1) << (7 - bit)).astype(np.uint8)
        labels >>= 3
    return colours


def heat_palette() -> UInt8[np.ndarray, "256 3"]:
    """Colours from black by way of red to light yellow, for heat from 0 to 255."""
    anchors = np.array(INFERNO, dtype=float)
    places = np.linspace(0, len(anchors) - 1, 256)
    ramps = [np.interp(places, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.stack(ramps, axis=1).round().astype(np.uint8)
