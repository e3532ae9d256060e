"""Weather: snow, frost and fog, made from noise; and brightness, the weather's light."""

import functools

import numpy as np
from jaxtyping import Float32

from patchclip.evaluation.corruption.blur import streaked, zoomed

GRAY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
FROSTS = (
    ((0.30, 0.58, 0.65), 0.07),
    ((0.79, 0.81, 0.84), 0.09),
    ((0.79, 0.81, 0.84), 0.09),
    ((0.54, 0.60, 0.65), 0.11),
    ((0.44, 0.48, 0.53), 0.17),
)
"""Mean colour and standard deviation of the released code's five frost photographs (measured on them)."""
NEEDLES = 6


def snow(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Falling snow on a whitened scene.

    Args:
        pixels: the image.
        settings: mean and deviation of the flakes' noise, their enlargement, the threshold of a flake,
            radius and sigma of its streak, share of the scene's own colours.
        rng: flakes and the wind.
    """
    mean, deviation, enlarged, threshold, radius, sigma, own = settings
    flakes = (mean + deviation * rng.standard_normal(pixels.shape[:2])).astype(np.float32)
    flakes = zoomed(flakes[..., None], enlarged)
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1).astype(np.float32)
    flakes = streaked(flakes, int(radius), sigma, rng.uniform(-135, -45))
    white = (pixels @ GRAY)[..., None] * 1.5 + 0.5
    scene = own * pixels + (1 - own) * np.maximum(pixels, white)
    return (scene + flakes + np.rot90(flakes, 2)).astype(np.float32)


def frost(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Ice on the lens: scene_share * x + frost_share * ice; settings (scene_share, frost_share).

    Differs: the released code lays crops of five photographs over the image; the ice here is drawn, with the
    mean colour and deviation of one of them.
    """
    scene, share = settings
    return np.float32(scene) * pixels + np.float32(share) * ice(pixels.shape[:2], rng)


def ice(size: tuple[int, int], rng: np.random.Generator) -> Float32[np.ndarray, "h w 3"]:
    """Crystals: noise smeared along `NEEDLES` directions, each strongest in patches of its own.

    Patches are the slow part of the same noise, of which the needles hold none.
    """
    colour, deviation = FROSTS[int(rng.integers(len(FROSTS)))]
    height, width = size
    total = np.zeros(size, dtype=np.float32)
    for turn in rng.uniform(0, np.pi, NEEDLES):
        white = np.fft.rfft2(rng.standard_normal(size, dtype=np.float32))
        needles = np.fft.irfft2(white * _smear(height, width, round(turn * 16 / np.pi)), s=size)
        patches = np.fft.irfft2(white * _patches(size), s=size)
        total = np.maximum(total, (np.abs(needles) * np.exp(2 * patches / patches.std())).astype(np.float32))
    total = np.log1p(total / total.mean())
    level = (total - total.mean()) / max(float(total.std()), 1e-6)
    return (np.array(colour, dtype=np.float32) + np.float32(deviation) * level[..., None]).clip(0, 1)


@functools.lru_cache(maxsize=64)
def _smear(height: int, width: int, sixteenth: int) -> Float32[np.ndarray, "h f"]:
    """Frequency response that keeps fine lines of one direction, `sixteenth` / 16 of half a turn."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    angle = np.pi * sixteenth / 16
    along = down * np.sin(angle) + across * np.cos(angle)
    beside = down * np.cos(angle) - across * np.sin(angle)
    return (np.exp(-0.5 * ((along / 0.012) ** 2 + (beside / 0.2) ** 2)) * (np.abs(beside) > 0.02)).astype(
        np.float32
    )


@functools.lru_cache(maxsize=8)
def _patches(size: tuple[int, int]) -> Float32[np.ndarray, "h f"]:
    """Frequency response that keeps what is larger than about 20 pixels."""
    down, across = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])
    return np.exp(-0.5 * (down**2 + across**2) / 0.015**2).astype(np.float32)


def fog(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Banks of fog: (x + density * plasma) * m / (m + density), m = max x; settings (density, decay)."""
    density, decay = settings
    brightest = float(pixels.max())
    height, width = pixels.shape[:2]
    banks = plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)[:height, :width, None]
    return (pixels + np.float32(density) * banks) * np.float32(brightest / (brightest + density))


def plasma(side: int, decay: float, rng: np.random.Generator) -> Float32[np.ndarray, "h h"]:
    """A fractal landscape on a torus in [0, 1], by the diamond-square algorithm.

    Args:
        side: a power of 2.
        decay: the noise shrinks by decay^2 each time the squares are halved.
        rng: of the noise.
    """
    field = np.zeros((side, side))
    step, noise = side, 1.0
    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        shape = corners.shape
        pairs = corners + np.roll(corners, -1, axis=0)
        middles = (pairs + np.roll(pairs, -1, axis=1)) / 4 + noise * rng.uniform(-1, 1, shape)
        field[half::step, half::step] = middles
        beside = corners + np.roll(corners, -1, axis=1) + middles + np.roll(middles, 1, axis=0)
        field[::step, half::step] = beside / 4 + noise * rng.uniform(-1, 1, shape)
        below = pairs + middles + np.roll(middles, 1, axis=1)
        field[half::step, ::step] = below / 4 + noise * rng.uniform(-1, 1, shape)
        step, noise = half, noise / decay**2
    field -= field.min()
    return (field / field.max()).astype(np.float32)


def brightness(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """More light, the same hue and saturation: value v of HSV becomes min(v + more, 1); settings (more,)."""
    value = pixels.max(axis=2, keepdims=True)
    lifted = np.minimum(value + np.float32(settings[0]), 1)
    return np.where(value > 0, pixels * lifted / np.maximum(value, 1e-6), lifted).astype(np.float32)
