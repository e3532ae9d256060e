"""Pictures from files for looking at, with the mask of their foreground where there is one."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from patchclip.data._decode import UnusableError, decode_image
from patchclip.data.pictures import read_bytes, unusable
from patchclip.errors import ConfigError, DataError

SIBLINGS = (".mask.png", ".inst.png")
"""Endings of the file beside NAME.jpg that holds its foreground."""

MOST_IMAGES = 64


@dataclass(frozen=True)
class Scene:
    """A picture to look at.

    Args:
        name: of the file, without its ending.
        image: RGB.
        foreground: grey, 255 where the object is, of the size of `image`; None if it is not known.
    """

    name: str
    image: Image.Image
    foreground: Image.Image | None = None


def read_scenes(paths: Sequence[str | Path], masks: Sequence[str | Path] = ()) -> list[Scene]:
    """Reads pictures with their foregrounds.

    The foreground is, in this order: the mask given for the picture; a file NAME.mask.png or NAME.inst.png
    beside it; the picture's own alpha channel, unless it is opaque everywhere. In a mask file every value
    above 0 is foreground, so instance ids and palettes serve as well as black and white.

    Args:
        paths: image files, 1 to 64; JPEG, PNG, WEBP, GIF, BMP, TIFF or PPM.
        masks: one for each image, in their order, or none.

    Raises:
        ConfigError: no image, more than 64, or another number of masks than of images.
        DataError: a file is missing, a folder, damaged, or larger than Pillow's limit; or a mask is empty or
            of another size than its image.
    """
    if not 1 <= len(paths) <= MOST_IMAGES:
        raise ConfigError(f"{len(paths)} images were given: there must be 1 to {MOST_IMAGES}, a row for each")
    if masks and len(masks) != len(paths):
        raise ConfigError(
            f"{len(masks)} masks were given for {len(paths)} images: one for each, in order, or none"
        )
    given: list[Path | None] = [Path(mask) for mask in masks]
    return [_read(Path(path), mask) for path, mask in zip(paths, given or [None] * len(paths), strict=True)]


def _read(path: Path, mask: Path | None) -> Scene:
    data = read_bytes(path, "image")
    try:
        image = decode_image(data)
    except UnusableError as error:
        raise unusable(path, error) from error
    beside = (path.with_name(path.stem + ending) for ending in SIBLINGS)
    mask = mask or next((file for file in beside if file.is_file() and file != path), None)
    foreground = _alpha(path, data) if mask is None else _mask(mask)
    if foreground is not None and foreground.size != image.size:
        theirs, ours = ("{} x {}".format(*size) for size in (foreground.size, image.size))
        raise DataError(f"{mask} has {theirs} pixels but {path} has {ours}: a mask must fit its image")
    return Scene(path.stem, image, foreground)


def _alpha(path: Path, data: bytes) -> Image.Image | None:
    """The alpha channel of a picture that decodes, if it hides anything."""
    with Image.open(io.BytesIO(data)) as image:
        if "A" not in image.getbands() and "transparency" not in image.info:
            return None
        alpha = image.convert("RGBA").getchannel("A")
    values = np.asarray(alpha)
    if not values.any():
        raise DataError(f"{path} is transparent everywhere: there is nothing to see")
    return None if values.min() == 255 else alpha


def _mask(path: Path) -> Image.Image:
    data = read_bytes(path, "mask")
    try:
        decode_image(data)
    except UnusableError as error:
        raise unusable(path, error) from error
    with Image.open(io.BytesIO(data)) as image:
        values = np.asarray(image)
        colours = values if values.ndim == 2 else values[..., : 3 if values.shape[2] > 2 else 1].max(axis=2)
    if not (colours > 0).any():
        raise DataError(f"{path} is empty: a mask must be above 0 where the foreground is")
    return Image.fromarray(np.where(colours > 0, 255, 0).astype(np.uint8))
