"""Small sets on disk: coloured pictures in class folders, and with captions."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "grey", "red")
COLOURS = ((40, 40, 200), (40, 200, 40), (120, 120, 120), (200, 40, 40))


def picture(label: int, seed: int) -> Image.Image:
    """A noisy picture of one colour."""
    noise = np.random.default_rng(seed).integers(-70, 71, (24, 30, 3))
    return Image.fromarray((np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8))


def write_classes(
    root: Path, name: str = "colours", train: tuple[int, ...] = (8, 8, 8, 8), test: int = 6
) -> Path:
    """A set with so many training images of each class; none for a class makes an empty folder."""
    for part, counts in (("train", train), ("test", (test,) * len(CLASSES))):
        for label, (words, count) in enumerate(zip(CLASSES, counts, strict=False)):
            folder = root / name / part / words
            folder.mkdir(parents=True)
            for i in range(count):
                picture(label, 1000 * label + i + (500 if part == "test" else 0)).save(folder / f"{i}.png")
    return root


def write_captions(root: Path, count: int = 24) -> Path:
    """Pictures with a caption of two colours each, whose words can be exchanged."""
    folder = root / "pairs" / "test"
    folder.mkdir(parents=True)
    for i in range(count):
        first, second = i % 4, (i + 1 + i // 4) % 4
        picture(first, i).save(folder / f"{i:03d}.png")
        text = f"a {CLASSES[first]} cube beside a {CLASSES[second]} ball number {i}"
        (folder / f"{i:03d}.txt").write_text(text)
    return root
