"""Colours: of label maps as Pascal VOC stores them, of regions on a picture, of heat."""

import colorsys

import numpy as np
from jaxtyping import UInt8

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

GOLDEN = 0.61803398875
"""Part of the circle of hues between one further colour and the next."""

INFERNO = (
    *((0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85)),
    *((227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164)),
)
"""Anchors of matplotlib's "inferno" (van der Walt and Smith, CC0): lightness rises evenly, in grey too."""


def region_colour(label: int) -> Colour:
    """The colour of a label on a picture, always the same for its number.

    Args:
        label: 1 for the first label, as in a label map.
    """
    if label <= len(REGIONS):
        return REGIONS[label - 1]
    further = label - len(REGIONS) - 1
    red, green, blue = colorsys.hls_to_rgb(further * GOLDEN % 1.0, (0.42, 0.58, 0.72)[further % 3], 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


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
