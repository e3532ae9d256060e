"""Colours that an object of a scene does not have."""

from __future__ import annotations

import numpy as np
from PIL import Image

from patchclip.data.compose.words import COLOURS


def far_colour(image: Image.Image) -> str:
    """Return the colour of which the object has the least."""
    pixels = np.asarray(image).reshape(-1, 4).astype(np.float32)
    solid = pixels[pixels[:, 3] > 128][:, :3]
    near = {
        name: float((np.linalg.norm(solid - np.array(value), axis=1) < 130).mean())
        for name, value in COLOURS.items()
    }
    return min(near, key=lambda name: (round(near[name], 3), name))
