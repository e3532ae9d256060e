"""Pictures of any size as a model's pixels: resized to a plan's size, scaled and normalised."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from patchclip.errors import ConfigError

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "random": Image.Resampling.BICUBIC,
}


def checked(image: Image.Image, number: int) -> Image.Image:
    """The image. Raises ConfigError where it is no RGB picture with pixels."""
    if not isinstance(image, Image.Image):
        raise ConfigError(f"image {number} is a {type(image).__name__}: give PIL images (PIL.Image.open)")
    if image.mode != "RGB":
        raise ConfigError(f"image {number} has the mode {image.mode!r}, it must be RGB: image.convert('RGB')")
    if 0 in image.size:
        raise ConfigError(f"image {number} has {image.width} x {image.height} pixels: at least one is needed")
    return image


def resized(image: Image.Image, size: tuple[int, int], config: dict[str, Any]) -> Float[Tensor, "3 h w"]:
    """Pixels in [0, 1] of the resized image, with the model's own filter.

    Args:
        image: RGB.
        size: (height, width).
        config: open_clip's preprocessing of the model: "interpolation".
    """
    kind = FILTERS[config.get("interpolation", "bicubic")]
    height, width = size
    small = image if image.size == (width, height) else image.resize((width, height), kind)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).float().div_(255)


def normalised(pixels: Float[Tensor, "*b 3 h w"], config: dict[str, Any]) -> Float[Tensor, "*b 3 h w"]:
    """Pixels less the model's mean over its deviation, a channel each."""
    mean, std = (torch.tensor(config[name], device=pixels.device)[:, None, None] for name in ("mean", "std"))
    return (pixels - mean) / std
