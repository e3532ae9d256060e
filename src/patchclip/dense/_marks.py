"""Numbers on regions: where there is most room for them, and how they are drawn."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Integer
from PIL import Image, ImageDraw, ImageFont

COARSE = 96
"""Pixels of the longer side of the label map in which places are sought."""

ROOM = 2
"""Pixels of it from a place to the region's border at least; a smaller region gets no number."""


def mark_places(
    label_map: Integer[np.ndarray, "h w"], values: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """For each label the place farthest from its borders, as shares (x, y) of width and height.

    A label whose every part is narrower than about 1/24 of the longer side is left out.
    """
    height, width = label_map.shape
    step = max(1, -(-max(height, width) // COARSE))
    coarse = label_map[step // 2 :: step, step // 2 :: step]
    if not coarse.size:
        coarse = label_map
    found = {}
    for value in values:
        depth = depths(coarse == value)
        if depth.max() >= ROOM:
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            found[value] = (float(x) + 0.5) / coarse.shape[1], (float(y) + 0.5) / coarse.shape[0]
    return found


def depths(mask: Bool[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """Steps up, down, left or right to the nearest pixel outside; beyond the picture is outside."""
    depth = np.zeros(mask.shape, dtype=np.int64)
    while mask.any():
        depth += mask
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return depth


def with_marks(picture: Image.Image, marks: Mapping[str, tuple[float, float]]) -> Image.Image:
    """The picture with texts centred at places given as shares of its sides, white with a dark edge."""
    size = max(13, round(max(picture.size) / 64))
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    for text, (x, y) in marks.items():
        place = x * picture.width, y * picture.height
        edge = max(1, size // 7)
        draw.text(place, text, "white", font, anchor="mm", stroke_width=edge, stroke_fill="#1d1d1b")
    return picture
