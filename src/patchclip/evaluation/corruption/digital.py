"""What processing does to images: less contrast, elastic bends, coarse pixels, JPEG blocks."""

import io

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from PIL import Image

from patchclip.evaluation.corruption.blur import smooth


def contrast(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Colours move to their mean: mean + share * (x - mean), channel by channel; settings (share,)."""
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return mean + np.float32(settings[0]) * (pixels - mean)


def elastic_transform(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """A random affine map, then a smooth random displacement of every pixel.

    Args:
        pixels: the image.
        settings: strength and sigma of the displacement and farthest shift of the affine map's three points,
            in pixels.
        rng: of both.
    """
    strength, sigma, farthest = settings
    height, width = pixels.shape[:2]
    middle = np.array([height, width]) // 2
    arm = min(height, width) // 3
    points = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + rng.uniform(-farthest, farthest, points.shape)
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points.astype(float))  # moved -> points
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ones = np.ones_like(x)
    from_xy = np.stack([x, y, ones], axis=-1) @ back.astype(np.float32)  # h w 2
    bent = sampled(pixels, from_xy[..., 0], from_xy[..., 1], edge="reflect")
    shifts = rng.uniform(-1, 1, (2, height, width)).astype(np.float32)
    right, down = (np.float32(strength) * smooth(each, sigma, 3.0, "symmetric") for each in shifts)
    return sampled(bent, x + right, y + down, edge="symmetric")


def sampled(
    image: Float32[np.ndarray, "h w 3"],
    x: Float32[np.ndarray, "h w"],
    y: Float32[np.ndarray, "h w"],
    edge: str,
) -> Float32[np.ndarray, "h w 3"]:
    """Bilinear values of an image at (x, y), in pixels.

    Args:
        image: what to read.
        x: column of every value.
        y: row of every value.
        edge: how the image goes on outside: "reflect" (without the last pixel) or "symmetric" (with it).
    """
    height, width = image.shape[:2]
    inside = edge == "reflect"
    if inside:
        grid = np.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], axis=-1)
    else:
        grid = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], axis=-1)
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    found = F.grid_sample(
        planes, torch.from_numpy(grid)[None], mode="bilinear", padding_mode="reflection", align_corners=inside
    )
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())


def pixelate(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Coarse pixels: box-averaged to a share of the size and enlarged again; settings (share,)."""
    height, width = pixels.shape[:2]
    small = (max(1, int(width * settings[0])), max(1, int(height * settings[0])))
    image = _image(pixels).resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)
    return _pixels(image)


def jpeg_compression(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Blocks of strong JPEG compression; settings (quality,)."""
    file = io.BytesIO()
    _image(pixels).save(file, "JPEG", quality=int(settings[0]))
    with Image.open(file) as image:
        return _pixels(image)


def _image(pixels: Float32[np.ndarray, "h w 3"]) -> Image.Image:
    return Image.fromarray(np.rint(pixels * 255).clip(0, 255).astype(np.uint8))


def _pixels(image: Image.Image) -> Float32[np.ndarray, "h w 3"]:
    return np.asarray(image, dtype=np.float32) / np.float32(255)
