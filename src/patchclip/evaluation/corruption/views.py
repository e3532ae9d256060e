"""Common corruptions: 15 kinds at 5 severities, made of any image when it is read.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, arXiv:1903.12261, section 3; settings of the released ImageNet-C code for 224
pixels.
Differs: randomness is fixed by kind, severity and the image's number; frost is drawn, not photographed;
images are not stored as JPEG of quality 85 afterwards, as the released files are; the middle square is cut
and resized in one step, and enlarged bicubically where the image is small (the released images are never).
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from patchclip.errors import ConfigError
from patchclip.evaluation.corruption import blur, digital, noise, weather
from patchclip.registry import closest

SIZE = 224
RESIZED = 256
VERSION = 1
"""Raised when the same name would give other pixels: embeddings are kept under it."""

Corrupt = Callable[[np.ndarray, tuple[float, ...], np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """One kind of corruption.

    Args:
        corrupt: changes pixels [h w 3] float32 in [0, 1] by settings and a generator.
        settings: of severity 1 to 5.
        alexnet: mean error of AlexNet over the five severities on ImageNet-C, the denominator of CE.
    """

    corrupt: Corrupt
    settings: tuple[tuple[float, ...], ...]
    alexnet: float


KINDS: dict[str, Kind] = {
    "gaussian_noise": Kind(noise.gaussian_noise, ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)), 0.886428),
    "shot_noise": Kind(noise.shot_noise, ((60,), (25,), (12,), (5,), (3,)), 0.894468),
    "impulse_noise": Kind(noise.impulse_noise, ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)), 0.922640),
    "defocus_blur": Kind(blur.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), 0.819880),
    "glass_blur": Kind(
        blur.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), 0.826268
    ),
    "motion_blur": Kind(blur.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), 0.785948),
    "zoom_blur": Kind(blur.zoom_blur, ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)), 0.798360),
    "snow": Kind(
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        0.866816,
    ),
    "frost": Kind(weather.frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), 0.826572),
    "fog": Kind(weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)), 0.819324),
    "brightness": Kind(weather.brightness, ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)), 0.564592),
    "contrast": Kind(digital.contrast, ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)), 0.853204),
    "elastic_transform": Kind(
        digital.elastic_transform,
        (
            (488, 170.8, 24.4),
            (488, 19.52, 48.8),
            (12.2, 2.44, 4.88),
            (17.08, 2.44, 4.88),
            (29.28, 2.44, 4.88),
        ),
        0.646056,
    ),
    "pixelate": Kind(digital.pixelate, ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)), 0.717840),
    "jpeg_compression": Kind(digital.jpeg_compression, ((25,), (18,), (15,), (10,), (7,)), 0.606500),
}
"""Every kind in the paper's order."""

SEVERITIES = (1, 2, 3, 4, 5)


def chosen(kinds: str) -> tuple[str, ...]:
    """The kinds that "all", "none" or names joined by "+" stand for, in the paper's order.

    Raises:
        ConfigError: an unknown kind.
    """
    if kinds in ("all", "none"):
        return tuple(KINDS) if kinds == "all" else ()
    names = [name.strip() for name in kinds.split("+")]
    for name in names:
        if name not in KINDS:
            known = closest(name, (*KINDS, "all", "none"))
            raise ConfigError(f"corruptions={kinds!r}: there is no corruption {name!r}; {known}")
    return tuple(name for name in KINDS if name in names)


def check_severities(severities: Sequence[int]) -> None:
    """Raises ConfigError unless there is at least one severity and all are different and in [1, 5]."""
    if not isinstance(severities, Sequence) or isinstance(severities, str):
        raise ConfigError(f"severities={severities!r} must be a list of numbers from 1 to 5, as [1,3,5]")
    wrong = [s for s in severities if s not in SEVERITIES]
    if wrong or not severities or len(set(severities)) < len(severities):
        words = "must be different whole numbers from 1 to 5, at least one"
        raise ConfigError(f"severities={tuple(severities)} {words}")


def framed(image: Image.Image) -> Image.Image:
    """The middle 224 / 256 of an image's shorter side as an RGB square of 224 pixels.

    The framing of ImageNet-C: bilinear where that shrinks, bicubic where it enlarges.
    """
    side = min(image.size) * SIZE / RESIZED
    left, top = (image.width - side) / 2, (image.height - side) / 2
    how = Image.Resampling.BILINEAR if side >= SIZE else Image.Resampling.BICUBIC
    return image.convert("RGB").resize((SIZE, SIZE), how, box=(left, top, left + side, top + side))


@dataclass(frozen=True)
class Framed:
    """A view that frames and changes nothing else: what corrupted images are held against."""

    @property
    def name(self) -> str:
        """Name under which embeddings are kept."""
        return f"framed-v{VERSION}:{SIZE}"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """The framed image; `index` changes nothing."""
        return framed(image)


@dataclass(frozen=True)
class Corruption:
    """A view: the framed image with one corruption, the same each time for the same image number.

    Where the numbers of threads of torch and numpy differ, rare values differ by one grey level.

    Args:
        kind: one of `KINDS`.
        severity: from 1 (mild) to 5.

    Raises:
        ConfigError: an unknown kind or a severity outside [1, 5].
    """

    kind: str
    severity: int

    def __post_init__(self) -> None:
        _check_known(self.kind, self.severity)

    @property
    def name(self) -> str:
        """Name under which embeddings are kept."""
        return f"corruption-v{VERSION}:{self.kind}:{self.severity}:{SIZE}"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """The corrupted image, 224 pixels square, RGB."""
        pixels = np.asarray(framed(image), dtype=np.float32) / np.float32(255)
        return Image.fromarray(corrupted(pixels, self.kind, self.severity, index))


def corrupted(pixels: np.ndarray, kind: str, severity: int, index: int) -> np.ndarray:
    """Pixels with one corruption.

    Args:
        pixels: [224 224 3] float32 in [0, 1], the size that the settings are made for.
        kind: one of `KINDS`.
        severity: 1 to 5.
        index: number of the image in its set, >= 0: with kind and severity it fixes all randomness.

    Returns:
        [224 224 3] uint8, rounded down as in the released code.

    Raises:
        ConfigError: pixels of another shape or type, or an unknown kind or severity.
    """
    _check_known(kind, severity)
    if pixels.shape != (SIZE, SIZE, 3) or pixels.dtype != np.float32:
        raise ConfigError(
            f"pixels must be float32 of shape ({SIZE}, {SIZE}, 3), not {pixels.dtype} of {pixels.shape}; "
            "`framed` cuts an image to that size"
        )
    rng = np.random.default_rng((zlib.crc32(kind.encode()), severity, index))
    changed = KINDS[kind].corrupt(pixels, KINDS[kind].settings[severity - 1], rng)
    return np.floor(changed.clip(0, 1) * 255 + 1e-3).astype(np.uint8)


def _check_known(kind: str, severity: int) -> None:
    if kind not in KINDS:
        raise ConfigError(f"there is no corruption {kind!r}; {closest(kind, KINDS)}")
    if severity not in SEVERITIES:
        raise ConfigError(f"severity={severity} must be a whole number from 1 to 5")
