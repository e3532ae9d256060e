"""Tiny segmentation sets for the tests, one function for each layout, with masks known pixel by pixel."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data._make import colour
from tests.data._make_sets import lines

SIZE = (5, 4)
"""Width and height of every image."""


def values(codes: Sequence[int], number: int = 0) -> np.ndarray:
    """A mask of these values, in an order of its own for every number."""
    width, height = SIZE
    return np.resize(np.roll(np.array(codes), -3 * number), (height, width))


def image(path: Path, number: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour(number)).save(path)
    return path


def mask(path: Path, array: np.ndarray, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(array.astype(np.uint16 if array.max() > 255 else np.uint8))
    if palette:
        made = made.convert("L")
        made.putpalette([(37 * i + 11) % 256 for i in range(768)])
    made.save(path)
    return path


def grey(array: np.ndarray, bits: int) -> bytes:
    """A PNG of grey with so few bits a pixel, which Pillow does not write."""
    height, width = array.shape
    rows = b""
    for row in array.tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _pairs(
    images: Path, ending: str, masks: Path, mask_ending: str, codes: Sequence[int], names: str
) -> None:
    for number, name in enumerate(names.split()):
        image(images / f"{name}{ending}", number)
        mask(masks / f"{name}{mask_ending}", values(codes, number))


def voc(folder: Path, codes: Sequence[int] = (0, 1, 15, 20, 255), part: str = "val") -> Path:
    for number, name in enumerate(("2007_000033", "2007_000042")):
        image(folder / "JPEGImages" / f"{name}.jpg", number)
        mask(folder / "SegmentationClass" / f"{name}.png", values(codes, number), palette=True)
    image(folder / "JPEGImages" / "2008_000001.jpg", 7)
    listed = folder / "ImageSets" / "Segmentation" / f"{part}.txt"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_bytes(b"2007_000042\r\n\r\n2007_000033  \r\n\n")
    return folder


def voc_detectron(folder: Path) -> Path:
    codes = (0, 14, 19, 255)
    _pairs(folder / "JPEGImages", ".jpg", folder / "annotations_detectron2" / "val", ".png", codes, "b a")
    image(folder / "JPEGImages" / "2008_000001.jpg", 7)
    return folder


def context(folder: Path) -> Path:
    codes = (0, 1, 2, 59)
    _pairs(folder / "JPEGImages", ".jpg", folder / "SegmentationClassContext", ".png", codes, "b a")
    lines(folder / "ImageSets" / "SegmentationContext" / "val.txt", "a", "b")
    voc(folder)
    return folder


def context_detectron(folder: Path) -> Path:
    codes = (0, 58, 7, 255)
    _pairs(
        folder / "JPEGImages", ".jpg", folder / "annotations_detectron2" / "pc59_val", ".png", codes, "b a"
    )
    return folder


def coco(folder: Path, masks: str, ending: str, codes: Sequence[int], images: str = "images/val2017") -> Path:
    _pairs(folder / images, ".jpg", folder / masks, ending, codes, "000000000139 000000000285")
    return folder


def cityscapes(folder: Path, kind: str, codes: Sequence[int]) -> Path:
    names = "frankfurt/frankfurt_000000_000294 munster/munster_000000_000019"
    places = folder / "leftImg8bit" / "val", "_leftImg8bit.png", folder / "gtFine" / "val"
    _pairs(*places, f"_gtFine_{kind}.png", codes, names)
    for name in names.split():
        mask(folder / "gtFine" / "val" / f"{name}_gtFine_instanceIds.png", values((24000, 7)))
        mask(folder / "gtFine" / "val" / f"{name}_gtFine_color.png", values((1, 2)))
    return folder


def ade(folder: Path, masks: str = "annotations", codes: Sequence[int] = (0, 1, 2, 150)) -> Path:
    places = folder / "images" / "validation", ".jpg", folder / masks / "validation"
    _pairs(*places, ".png", codes, "ADE_val_00000001 ADE_val_00000002")
    return folder


def plain(folder: Path, codes: Sequence[int] = (0, 1, 2, 255), part: str = "") -> Path:
    for number, name in enumerate(("one", "deep/two")):
        image(folder / "images" / part / f"{name}.{('png', 'jpg')[number]}", number)
        mask(folder / "masks" / part / f"{name}.png", values(codes, number))
    lines(folder / "classes.txt", "# of mine", "background", "a cat | a kitten", "dog = a hound")
    return folder
