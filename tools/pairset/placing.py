"""Place two or three cut-outs on a square so that a relation holds between the first two."""

from __future__ import annotations

import random

from PIL import Image

SIDE = 224
GAP, MARGIN = 4, 3
Spot = tuple[int, int]
Places = dict[int, Spot]


def place(rng: random.Random, images: list[Image.Image], relation: str) -> Places | None:
    """Return the corner of each image, or None when they did not fit."""
    if relation in ("to the left of", "to the right of"):
        places = _beside(rng, images, (0, 1) if "left" in relation else (1, 0))
    elif relation in ("above", "below"):
        places = _over(rng, images, (0, 1) if relation == "above" else (1, 0))
    else:
        places = _before(rng, images, (0, 1) if relation == "in front of" else (1, 0))
    if places is None or len(images) == 2:
        return places
    spot = _free_spot(rng, images, places)
    return None if spot is None else {**places, 2: spot}


def _beside(rng: random.Random, images: list[Image.Image], order: tuple[int, int]) -> Places | None:
    left, right = order
    wl, wr = images[left].width, images[right].width
    free = SIDE - wl - wr - GAP - 2 * MARGIN
    if free < 0:
        return None
    xl = MARGIN + rng.randint(0, free // 2)
    xr = xl + wl + GAP + rng.randint(0, SIDE - MARGIN - wr - (xl + wl + GAP))
    base = rng.randint(max(images[0].height, images[1].height) + MARGIN, SIDE - MARGIN)
    return {left: (xl, base - images[left].height), right: (xr, base - images[right].height)}


def _over(rng: random.Random, images: list[Image.Image], order: tuple[int, int]) -> Places | None:
    up, down = order
    hu, hd = images[up].height, images[down].height
    free = SIDE - hu - hd - GAP - 2 * MARGIN
    if free < 0:
        return None
    yu = MARGIN + rng.randint(0, free // 2)
    yd = yu + hu + GAP + rng.randint(0, SIDE - MARGIN - hd - (yu + hu + GAP))
    half = int(max(images[0].width, images[1].width) / 2)
    cx = rng.randint(half + MARGIN, SIDE - MARGIN - half)
    return {up: (cx - images[up].width // 2, yu), down: (cx - images[down].width // 2, yd)}


def _before(rng: random.Random, images: list[Image.Image], order: tuple[int, int]) -> Places:
    front, back = order
    f, b = images[front], images[back]
    bx = rng.randint(MARGIN, max(MARGIN, SIDE - b.width - MARGIN))
    by = rng.randint(MARGIN, max(MARGIN, SIDE - b.height - int(0.2 * f.height) - MARGIN))
    fx = bx + int(b.width * rng.uniform(0.35, 0.7)) - f.width // 4
    fy = by + b.height - int(f.height * rng.uniform(0.55, 0.8))
    fx = min(max(fx, MARGIN), SIDE - f.width - MARGIN)
    fy = min(max(fy, MARGIN), SIDE - f.height - MARGIN)
    return {back: (bx, by), front: (fx, fy)}


def _free_spot(rng: random.Random, images: list[Image.Image], places: Places) -> Spot | None:
    image = images[2]
    boxes = [(*places[i], places[i][0] + images[i].width, places[i][1] + images[i].height) for i in (0, 1)]
    for _ in range(30):
        x = rng.randint(MARGIN, SIDE - image.width - MARGIN)
        y = rng.randint(MARGIN, SIDE - image.height - MARGIN)
        if all(x >= q[2] or x + image.width <= q[0] or y >= q[3] or y + image.height <= q[1] for q in boxes):
            return x, y
    return None
