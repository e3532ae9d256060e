"""Cut objects out of sample pictures, colour them and place them on a square without breaking a relation."""

from __future__ import annotations

import io
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tools.scenes_words import COLOURS

SIDE = 224
MARGIN, GAP, SLANT = 4, 4, 0.2
HIDDEN = (0.15, 0.45)
TRIES = 4000
WHITE = 238
Spot = tuple[int, int]


def picture(data: bytes) -> Image.Image:
    """Return the colours of a sample picture, laid on white."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def cut(data: bytes) -> Image.Image:
    """Return the object of a sample picture as RGBA, cropped: by its alpha, or else by the white around it.

    White is filled in from the border, so that white inside the object stays; the outermost pixel of the
    object, a mixture with white, goes.
    """
    image = Image.open(io.BytesIO(data))
    if image.mode == "RGBA":
        pixels = np.asarray(image).astype(np.float32)
        weight = np.maximum(pixels[..., 3:] / 255, 0.08)
        pixels[..., :3] = np.clip((pixels[..., :3] - 255 * (1 - weight)) / weight, 0, 255)
        found = Image.fromarray(np.round(pixels).astype(np.uint8), "RGBA")
    else:
        found = image.convert("RGB")
        light = np.pad(np.asarray(found).min(-1) >= WHITE, 1, constant_values=True)
        filled = Image.fromarray(light.astype(np.uint8) * 255).copy()
        ImageDraw.floodfill(filled, (0, 0), 128)
        solid = Image.fromarray((np.asarray(filled)[1:-1, 1:-1] != 128).astype(np.uint8) * 255)
        found.putalpha(solid.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.6)))
    return found.crop(Image.fromarray(np.asarray(found)[..., 3]).point(lambda a: 255 * (a > 40)).getbbox())


def tinted(image: Image.Image, colour: str) -> Image.Image:
    """Return the object in one colour: its light and shade stay, its own colours go."""
    pixels = np.asarray(image).astype(np.float32)
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    low, middle, high = np.percentile(light[pixels[..., 3] > 30], [3, 50, 97])
    shade = np.clip(1 + (light - middle) / max(high - low, 0.5), 0.3, 1.7)[..., None]
    target = np.array(COLOURS[colour], np.float32)
    mixed = np.where(shade <= 1, target * shade, target + (255 - target) * (shade - 1))
    whole = np.concatenate([np.clip(mixed, 0, 255), pixels[..., 3:]], -1)
    return Image.fromarray(np.round(whole).astype(np.uint8), "RGBA")


def far_colour(image: Image.Image) -> str:
    """Return the colour of which the object has the least."""
    pixels = np.asarray(image).reshape(-1, 4).astype(np.float32)
    solid = pixels[pixels[:, 3] > 128][:, :3]
    near = {
        name: float((np.linalg.norm(solid - np.array(value), axis=1) < 130).mean())
        for name, value in COLOURS.items()
    }
    return min(near, key=lambda name: (round(near[name], 3), name))


def scaled(image: Image.Image, length: float, flip: bool) -> Image.Image:
    """Return the object with its long side at ``length`` pixels, perhaps mirrored."""
    scale = length / max(image.size)
    size = (max(4, round(image.width * scale)), max(4, round(image.height * scale)))
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image
    return image.resize(size, Image.Resampling.LANCZOS)


def mask(image: Image.Image) -> np.ndarray:
    """Return where an object is more solid than clear."""
    return np.asarray(image)[..., 3] > 127


def overlap(a: Image.Image, p: Spot, b: Image.Image, q: Spot) -> float:
    """Return the common area of two objects as a share of the smaller one."""
    layers = np.zeros((2, SIDE, SIDE), bool)
    for layer, image, (x, y) in ((0, a, p), (1, b, q)):
        layers[layer, y : y + image.height, x : x + image.width] = mask(image)
    return float((layers[0] & layers[1]).sum() / layers.sum((1, 2)).min())


def _apart(a: Image.Image, p: Spot, b: Image.Image, q: Spot) -> bool:
    wide = p[0] + a.width + GAP <= q[0] or q[0] + b.width + GAP <= p[0]
    return wide or p[1] + a.height + GAP <= q[1] or q[1] + b.height + GAP <= p[1]


def _holds(relation: str, a: Image.Image, p: Spot, b: Image.Image, q: Spot) -> bool:
    if relation in ("to the right of", "below"):
        opposite = "to the left of" if relation == "to the right of" else "above"
        return _holds(opposite, b, q, a, p)
    if relation == "to the left of":
        slant = abs(p[1] + a.height / 2 - q[1] - b.height / 2)
        return p[0] + a.width + GAP <= q[0] and slant < SLANT * SIDE
    if relation == "above":
        slant = abs(p[0] + a.width / 2 - q[0] - b.width / 2)
        return p[1] + a.height + GAP <= q[1] and slant < SLANT * SIDE
    return not _apart(a, p, b, q) and HIDDEN[0] <= overlap(a, p, b, q) <= HIDDEN[1]


def placed(rng: random.Random, images: list[Image.Image], relation: str) -> list[Spot]:
    """Draw corners until the first two objects stand in the relation and the third touches neither.

    Raises:
        ValueError: no draw did.
    """
    for _ in range(TRIES):
        spots = [
            (rng.randint(MARGIN, SIDE - MARGIN - i.width), rng.randint(MARGIN, SIDE - MARGIN - i.height))
            for i in images
        ]
        third = list(zip(images, spots, strict=True))[2:]
        clear = all(_apart(i, s, images[n], spots[n]) for i, s in third for n in (0, 1))
        if clear and _holds(relation, images[0], spots[0], images[1], spots[1]):
            return spots
    raise ValueError(f"no place found for {[i.size for i in images]} with the first {relation} the second")
