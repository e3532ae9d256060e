"""Places objects on a square so that what is said of them is true, and paints them there."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchclip.data.compose.cut import mask
from patchclip.data.compose.words import OPPOSITE, Told
from patchclip.errors import PatchclipError

SIDE = 224
"""Pixels of a scene's side."""

MARGIN, GAP, SLANT = 4, 4, 0.2
"""Pixels to the border and between objects; how far one beside another may lie higher, as a share of SIDE."""

HIDDEN = (0.15, 0.45)
"""Least and most of the smaller object that is common to two of which one hides the other."""

TRIES = 4000
Spot = tuple[int, int]
Item = tuple[Spot, tuple[int, int], NDArray[np.bool_]]


class NoPlaceError(PatchclipError):
    """No draw of places made true what is said of the objects."""


def placed(rng: random.Random, images: Sequence[Image.Image], relation: str) -> list[Spot]:
    """Draws corners until the first two objects stand in the relation and the third touches neither.

    Args:
        rng: gives all randomness.
        images: RGBA, one to three, each with room for `MARGIN` around it.
        relation: of the first to the second, of `OPPOSITE`; not looked at for one object.

    Raises:
        NoPlaceError: none of 4000 draws did.
    """
    masks = [mask(image) for image in images]
    for _ in range(TRIES):
        spots = [
            (rng.randint(MARGIN, SIDE - MARGIN - i.width), rng.randint(MARGIN, SIDE - MARGIN - i.height))
            for i in images
        ]
        items = [(spot, i.size, solid) for spot, i, solid in zip(spots, images, masks, strict=True)]
        if all(_apart(item, items[n]) for item in items[2:] for n in (0, 1)) and (
            len(items) == 1 or _holds(relation, items[0], items[1])
        ):
            return spots
    raise NoPlaceError(f"no place found for {[i.size for i in images]} with the first {relation} the second")


def overlap(a: Item, b: Item) -> float:
    """The common area of two objects as a share of the smaller one."""
    left, top = max(a[0][0], b[0][0]), max(a[0][1], b[0][1])
    right = min(a[0][0] + a[1][0], b[0][0] + b[1][0])
    bottom = min(a[0][1] + a[1][1], b[0][1] + b[1][1])
    if left >= right or top >= bottom:
        return 0.0
    shared = [m[top - y : bottom - y, left - x : right - x] for (x, y), _, m in (a, b)]
    return float((shared[0] & shared[1]).sum() / min(a[2].sum(), b[2].sum()))


def paint(
    canvas: Image.Image, told: Told, images: Sequence[Image.Image], spots: Sequence[Spot]
) -> tuple[Image.Image, list[dict[str, Any]]]:
    """Paints objects on a canvas, the first over the second where it stands in front of it.

    Args:
        canvas: RGBA of side `SIDE`; painted on.
        told: what the scene shows.
        images: RGBA, one for each of its things.
        spots: their corners.

    Returns:
        Instances: mode L, 0 for the background, 1 for the first object, and so on; and of each object its
        "id", "noun", "attribute" (if told), "box" (left, top, right, bottom) and "visible" share.
    """
    ids = np.zeros((SIDE, SIDE), np.uint8)
    for n in (1, 0, 2) if told.relation == "in front of" else (0, 1, 2):
        if n < len(images):
            (x, y), image = spots[n], images[n]
            canvas.alpha_composite(image, (x, y))
            ids[y : y + image.height, x : x + image.width][mask(image)] = n + 1
    objects: list[dict[str, Any]] = []
    for n, thing in enumerate(told.things):
        ys, xs = np.where(ids == n + 1)
        box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        seen = round(len(xs) / int(mask(images[n]).sum()), 3)
        item = {"id": n + 1, "noun": thing.noun, "attribute": thing.attribute, "box": box, "visible": seen}
        objects.append({k: v for k, v in item.items() if v != ""})
    return Image.fromarray(ids), objects


def square(rng: random.Random, photo: Image.Image) -> Image.Image:
    """A random square of an RGB photograph as a canvas, at least three quarters of its short side."""
    side = int(min(photo.size) * rng.uniform(0.75, 1.0))
    x, y = rng.randint(0, photo.width - side), rng.randint(0, photo.height - side)
    part = photo.crop((x, y, x + side, y + side))
    return part.resize((SIDE, SIDE), Image.Resampling.LANCZOS).convert("RGBA")


def _apart(a: Item, b: Item) -> bool:
    (x, y), (width, height), _ = a
    (u, v), (wide, high), _ = b
    beside = x + width + GAP <= u or u + wide + GAP <= x
    return beside or y + height + GAP <= v or v + high + GAP <= y


def _holds(relation: str, a: Item, b: Item) -> bool:
    if relation in ("to the right of", "below"):
        return _holds(OPPOSITE[relation], b, a)
    (x, y), (width, height), _ = a
    (u, v), (wide, high), _ = b
    if relation == "to the left of":
        return x + width + GAP <= u and abs(y + height / 2 - v - high / 2) < SLANT * SIDE
    if relation == "above":
        return y + height + GAP <= v and abs(x + width / 2 - u - wide / 2) < SLANT * SIDE
    return not _apart(a, b) and HIDDEN[0] <= overlap(a, b) <= HIDDEN[1]
