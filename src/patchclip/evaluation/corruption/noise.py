"""Noise of cameras and wires: the first three kinds of ImageNet-C.

Every corruption of these files takes pixels [h w 3] float32 in [0, 1], its settings at one severity and a
generator, and returns pixels [h w 3] that may leave [0, 1]; views.py clips them.
"""

import numpy as np
from jaxtyping import Float32


def gaussian_noise(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Noise of low light: x + N(0, scale^2); settings (scale,)."""
    (scale,) = settings
    return pixels + np.float32(scale) * rng.standard_normal(pixels.shape, dtype=np.float32)


def shot_noise(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Noise of light itself: Poisson(x * photons) / photons; settings (photons at white,)."""
    (photons,) = settings
    return (rng.poisson(pixels * np.float32(photons)) / photons).astype(np.float32)


def impulse_noise(
    pixels: Float32[np.ndarray, "h w 3"], settings: tuple[float, ...], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """Bit errors: a share of the values, each channel by itself, is 0 or 1 alike; settings (share,)."""
    (share,) = settings
    drawn = rng.random(pixels.shape, dtype=np.float32)
    noisy = np.where(drawn < share, np.float32(0), pixels)
    return np.where(drawn < share / 2, np.float32(1), noisy)
