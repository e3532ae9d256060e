"""Blurs: lens out of focus, frosted glass, a moving camera, a camera that zooms in.

Edges continue as in the libraries of the released code: "edge" repeats the last pixel, "symmetric" mirrors
with it (scipy calls that reflect), "reflect" mirrors without it (OpenCV's default).
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64


@functools.lru_cache(maxsize=32)
def smoothing(length: int, sigma: float, truncate: float, edge: str) -> Float32[np.ndarray, "h h"]:
    """The matrix that smooths `length` values with a Gaussian, edges included: smooth = matrix @ values.

    Args:
        length: of the signal.
        sigma: of the Gaussian, in pixels, > 0.
        truncate: radius of the kernel in sigmas.
        edge: "edge" or "symmetric".
    """
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    source = np.arange(length)[:, None] + offsets
    if edge == "edge":
        source = source.clip(0, length - 1)
    else:
        source = source % (2 * length)
        source = np.where(source < length, source, 2 * length - 1 - source)
    matrix = np.zeros((length, length))
    rows = np.broadcast_to(np.arange(length)[:, None], source.shape)
    np.add.at(matrix, (rows, source), np.broadcast_to(weights, source.shape))
    return matrix.astype(np.float32)


def smooth(
    image: Float32[np.ndarray, "h w *c"], sigma: float, truncate: float = 4.0, edge: str = "edge"
) -> Float32[np.ndarray, "h w *c"]:
    """Gaussian blur of every channel; see `smoothing`."""
    height, width = image.shape[:2]
    down, across = smoothing(height, sigma, truncate, edge), smoothing(width, sigma, truncate, edge)
    if image.ndim == 2:
        return down @ image @ across.T
    planes = down @ image.transpose(2, 0, 1) @ across.T
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def zoomed(image: Float32[np.ndarray, "h w c"], factor: float) -> Float32[np.ndarray, "h w c"]:
    """The middle of an image, bilinearly enlarged by `factor` >= 1 and trimmed to the image's size."""
    height, width = image.shape[:2]
    inner = [math.ceil(side / factor) for side in (height, width)]
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    middle = torch.from_numpy(image[top : top + inner[0], left : left + inner[1]]).permute(2, 0, 1)
    size = [round(side * factor) for side in inner]
    large = F.interpolate(middle[None], size=size, mode="bilinear", align_corners=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, top : top + height, left : left + width].permute(1, 2, 0).numpy()


def streaked(
    image: Float32[np.ndarray, "h w c"], radius: int, sigma: float, angle: float
) -> Float32[np.ndarray, "h w c"]:
    """Motion blur: half a Gaussian along a line, y = sum_i k_i x(p + i (cos a, sin a)), as ImageMagick has
    it.

    Args:
        image: edges repeat.
        radius: 2 * radius + 1 steps of a pixel.
        sigma: of the Gaussian, in pixels.
        angle: a, in degrees, 0 is to the right.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2).astype(np.float32)
    weights /= weights.sum()
    down = np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    right = np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    most = 2 * radius + 1
    height, width = image.shape[:2]
    padded = np.pad(image, ((most, most), (most, most), (0, 0)), mode="edge")
    blurred = np.zeros_like(image)
    for weight, dy, dx in zip(weights, down + most, right + most, strict=True):
        blurred += weight * padded[dy : dy + height, dx : dx + width]
    return blurred


@functools.lru_cache(maxsize=8)
def disk(radius: int, softness: float) -> Float[np.ndarray, "k k"]:
    """A disk that sums to 1, then smoothed by a small Gaussian of `softness` pixels, its edges mirrored."""
    reach = max(8, radius)
    line = np.arange(-reach, reach + 1)
    flat = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float64)
    flat /= flat.sum()
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    weights = np.exp(-0.5 * (taps / softness) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(
            flat, [(len(taps) // 2,) * 2 if a == axis else (0, 0) for a in (0, 1)], mode="reflect"
        )
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=axis)
        flat = windows @ weights
    return flat


def defocus_blur(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Out of focus: convolution with a disk; settings (radius, softness of the rim)."""
    kernel = disk(int(settings[0]), settings[1])
    reach = len(kernel) // 2
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="reflect").transpose(2, 0, 1)
    size = padded.shape[1:]
    product = np.fft.rfft2(padded) * np.fft.rfft2(kernel, s=size)
    full = np.fft.irfft2(product, s=size)[:, 2 * reach :, 2 * reach :]
    return np.ascontiguousarray(full.transpose(1, 2, 0), dtype=np.float32)


def glass_blur(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Frosted glass: pixels take the place of near ones between two Gaussian blurs.

    Differs: as the released code, not the paper: pixels do not swap places, each takes the value of
    another, for there both sides of the swap are views of one array.

    Args:
        pixels: the image.
        settings: sigma, farthest shift in pixels, rounds.
        rng: where the pixels go.
    """
    sigma, shift, rounds = settings[0], int(settings[1]), int(settings[2])
    image = np.floor(smooth(pixels, sigma) * 255).clip(0, 255) / np.float32(255)
    height, width = image.shape[:2]
    for _ in range(rounds):
        moves = rng.integers(-shift, shift, size=(height, width, 2))
        image = image.reshape(-1, 3)[taken_from(moves, shift)].reshape(height, width, 3)
    return smooth(image, sigma)


def taken_from(moves: Int64[np.ndarray, "h w 2"], shift: int) -> Int64[np.ndarray, "hw"]:
    """Where every pixel's value comes from, when pixels copy a neighbour one after the other.

    From the last pixel to the first, each more than `shift` from the first and at least `shift` from the
    last row and column takes the value that its neighbour at (dy, dx) = moves holds by then. A neighbour
    further on has been replaced already, so its own source is followed, by pointer doubling instead of a
    loop over pixels.
    """
    height, width = moves.shape[:2]
    place = np.arange(height * width).reshape(height, width)
    chosen = place.copy()
    inner = (slice(shift + 1, height - shift + 1), slice(shift + 1, width - shift + 1))
    chosen[inner] += moves[inner][..., 0] * width + moves[inner][..., 1]
    source, own = chosen.ravel(), place.ravel()
    moved = np.zeros((height, width), dtype=bool)
    moved[inner] = True
    later = (source > own) & moved.ravel()[source]
    follow = np.where(later, source, own)
    while True:
        further = follow[follow]
        if (further == follow).all():
            return source[follow]
        follow = further


def motion_blur(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """A moving camera, at most 45 degrees off the horizontal; settings (radius, sigma)."""
    return streaked(pixels, int(settings[0]), settings[1], rng.uniform(-45, 45))


def zoom_blur(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """A camera moving in: the mean of the image and of its enlargements; settings (step, enlargements)."""
    step, count = settings[0], int(settings[1])
    total = pixels.copy()
    for i in range(count):
        total += zoomed(pixels, 1 + i * step)
    return total / np.float32(count + 1)
