"""Corruptions of several steps beside slow ones, written from the released code with scipy and loops.

Reference: ImageNet-C/create_c/make_imagenet_c.py of github.com/hendrycks/robustness. Random numbers are drawn
in the order of the code under test, for that is free.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from patchclip.data.benchmarks import load_benchmark
from patchclip.evaluation.corruption import blur, digital, noise, weather

SEEDS = range(6)
PHOTOGRAPHS = (
    ((0.30, 0.58, 0.65), 0.07),
    ((0.79, 0.81, 0.84), 0.09),
    ((0.79, 0.81, 0.84), 0.09),
    ((0.54, 0.60, 0.65), 0.11),
    ((0.44, 0.48, 0.53), 0.17),
)
"""Mean colour and deviation of the released frost photographs that are used, as measured on them."""


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    image: Image.Image = load_benchmark("samples", "zs_photo").images[0]
    return np.asarray(image.convert("RGB").resize((56, 48)), np.float32) / np.float32(255)


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """What skimage.filters.gaussian(image, sigma, multichannel=True) does."""
    return ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest", truncate=4.0)


def clipped_zoom(image: np.ndarray, factor: float) -> np.ndarray:
    """The released function, for images that need not be square."""
    height, width = image.shape[:2]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = image[top : top + rows, left : left + columns]
    large = ndimage.zoom(middle, (factor, factor, 1), order=1)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return large[top : top + height, left : left + width]


def magick_motion_blur(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's MotionBlurImage: one side of a Gaussian along the angle, the nearest pixel outside."""
    height, width, channels = image.shape
    kernel = [math.exp(-i * i / (2 * sigma * sigma)) for i in range(2 * radius + 1)]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    total = np.zeros((height, width, channels))
    for i, weight in enumerate(kernel):
        down = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        right = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        taken = image[np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)]
        total += weight / sum(kernel) * taken
    return total


def read(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    """Bilinear values; scipy's mode "mirror" leaves the last pixel out, "reflect" repeats it."""
    values = [ndimage.map_coordinates(image[..., c], (rows, columns), order=1, mode=mode) for c in range(3)]
    return np.stack(values, axis=-1).reshape(image.shape)


@pytest.mark.parametrize("settings", [(0.7, 1, 2), (1, 2, 3), (1.5, 4, 2)])
def test_glass_blurs_copies_and_blurs_again(settings: tuple[float, ...], photograph: np.ndarray) -> None:
    sigma, shift, rounds = settings[0], int(settings[1]), int(settings[2])
    found = blur.glass_blur(photograph, settings, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    image = (gaussian(photograph, sigma) * 255).astype(np.uint8)
    height, width = image.shape[:2]
    for _ in range(rounds):
        moves = rng.integers(-shift, shift, size=(height, width, 2))
        for y in range(height - shift, shift, -1):
            for x in range(width - shift, shift, -1):
                image[y, x] = image[y + moves[y, x, 0], x + moves[y, x, 1]]
    difference = np.abs(found - gaussian(image / 255, sigma))
    assert difference.max() < 1.5 / 255  # a value that is rounded down may fall by one level
    assert difference.mean() < 0.02 / 255


@pytest.mark.parametrize("seed", SEEDS)
def test_motion_is_within_45_degrees_of_the_horizontal(seed: int, photograph: np.ndarray) -> None:
    found = blur.motion_blur(photograph, (15, 8), np.random.default_rng(seed))
    angle = np.random.default_rng(seed).uniform(-45, 45)
    np.testing.assert_allclose(found, magick_motion_blur(photograph, 15, 8, angle), atol=1e-5)


@pytest.mark.parametrize("settings", [(0.01, 12), (0.02, 11), (0.03, 11)])
def test_zoom_blur_is_a_mean_with_the_image_itself(
    settings: tuple[float, ...], photograph: np.ndarray
) -> None:
    found = blur.zoom_blur(photograph, settings, np.random.default_rng(0))
    factors = 1 + settings[0] * np.arange(settings[1])
    large = [clipped_zoom(photograph, factor) for factor in factors]
    np.testing.assert_allclose(found, (photograph + sum(large)) / (len(factors) + 1), atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("settings", [(0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)])
def test_snow_falls_on_a_whitened_scene(
    seed: int, settings: tuple[float, ...], photograph: np.ndarray
) -> None:
    mean, deviation, enlarged, threshold, radius, sigma, own = settings
    photograph = photograph.copy()
    photograph[:9] = (0, 0, 1)  # brighter than its own whitened gray
    found = weather.snow(photograph, settings, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    flakes = rng.standard_normal(photograph.shape[:2]) * deviation + mean
    flakes = clipped_zoom(flakes[..., None], enlarged)
    flakes[flakes < threshold] = 0
    flakes = magick_motion_blur(np.clip(flakes, 0, 1), int(radius), sigma, rng.uniform(-135, -45))
    gray = photograph @ np.array([0.299, 0.587, 0.114])
    white = np.maximum(photograph, gray[..., None] * 1.5 + 0.5)
    expected = own * photograph + (1 - own) * white + flakes + flakes[::-1, ::-1]
    assert np.quantile(np.abs(found - expected), 0.99) < 1e-5  # a flake at the threshold may flip


@pytest.mark.parametrize("settings", [(488, 170.8, 24.4), (12.2, 2.44, 4.88), (29.28, 2.44, 4.88)])
def test_elastic_is_an_affine_map_and_smooth_shifts(
    settings: tuple[float, ...], photograph: np.ndarray
) -> None:
    strength, sigma, farthest = settings[0], settings[1], settings[2] / 4  # a map that a small image bears
    found = digital.elastic_transform(photograph, (strength, sigma, farthest), np.random.default_rng(2))
    rng = np.random.default_rng(2)
    height, width = photograph.shape[:2]
    middle, arm = np.array([height // 2, width // 2]), min(height, width) // 3
    points = np.array([middle + arm, [middle[0] + arm, middle[1] - arm], middle - arm], float)
    moved = points + rng.uniform(-farthest, farthest, (3, 2))
    there = np.linalg.solve(np.c_[points, np.ones(3)], moved)  # x' y' = [x y 1] there
    back = np.linalg.inv(np.c_[there, [0, 0, 1]])[:, :2]
    y, x = np.mgrid[:height, :width]
    at = np.c_[x.ravel(), y.ravel(), np.ones(x.size)] @ back
    bent = read(photograph, at[:, 1], at[:, 0], "mirror")
    across, down = (
        ndimage.gaussian_filter(rng.uniform(-1, 1, (height, width)), sigma, mode="reflect", truncate=3)
        for _ in range(2)
    )
    rows, columns = (y + strength * down).ravel(), (x + strength * across).ravel()
    np.testing.assert_allclose(found, read(bent, rows, columns, "reflect"), atol=2e-3)


@pytest.mark.parametrize("radius, softness, taps", [(3, 0.1, 3), (4, 0.5, 3), (8, 0.5, 3), (10, 0.5, 5)])
def test_the_disk_is_that_of_opencv(radius: int, softness: float, taps: int) -> None:
    line = np.arange(-max(radius, 8), max(radius, 8) + 1)
    inside = line[:, None] ** 2 + line[None] ** 2 <= radius**2
    expected = inside.astype(float)
    weights = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * softness**2))
    for axis in (0, 1):  # cv2.GaussianBlur mirrors without the last pixel by default
        expected = ndimage.correlate1d(expected, weights / weights.sum(), axis, mode="mirror")
    np.testing.assert_allclose(blur.disk(radius, softness), expected / inside.sum())


def test_frost_adds_ice_to_a_darker_scene(photograph: np.ndarray) -> None:
    found = weather.frost(photograph, (0.7, 0.65), np.random.default_rng(4))
    ice = weather.ice(photograph.shape[:2], np.random.default_rng(4))
    np.testing.assert_allclose(found, 0.7 * photograph + 0.65 * ice, atol=1e-6)


def test_fog_adds_a_landscape_and_keeps_the_brightest_value(photograph: np.ndarray) -> None:
    dark = photograph * np.float32(0.5)
    found = weather.fog(dark, (2.5, 1.7), np.random.default_rng(4))
    banks = weather.plasma(64, 1.7, np.random.default_rng(4))[:48, :56, None]  # 64: the next power of 2
    most = dark.max()
    np.testing.assert_allclose(found, (dark + 2.5 * banks) * most / (most + 2.5), atol=1e-6)


@pytest.mark.parametrize("share", [0.6, 0.25])
def test_coarse_pixels_are_those_of_pillow(share: float, photograph: np.ndarray) -> None:
    image = Image.fromarray(np.rint(photograph * 255).astype(np.uint8))
    small = image.resize((int(56 * share), int(48 * share)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((56, 48), Image.Resampling.BOX), float) / 255
    found = digital.pixelate(photograph, (share,), np.random.default_rng(0))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("quality", [25, 7])
def test_blocks_are_those_of_a_jpeg_file(quality: int, photograph: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(np.rint(photograph * 255).astype(np.uint8)).save(tmp_path / "x.jpg", quality=quality)
    with Image.open(tmp_path / "x.jpg") as image:
        expected = np.asarray(image, float) / 255
    found = digital.jpeg_compression(photograph, (quality,), np.random.default_rng(0))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_noise_is_that_of_its_distribution(photograph: np.ndarray) -> None:
    shape = photograph.shape
    normal = noise.gaussian_noise(photograph, (0.18,), np.random.default_rng(1))
    drawn = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    np.testing.assert_allclose(normal, photograph + 0.18 * drawn, atol=1e-6)
    counts = noise.shot_noise(photograph, (12,), np.random.default_rng(1))
    np.testing.assert_allclose(counts, np.random.default_rng(1).poisson(photograph * 12) / 12, atol=1e-6)
    struck = noise.impulse_noise(photograph, (0.27,), np.random.default_rng(1))
    uniform = np.random.default_rng(1).random(shape, dtype=np.float32)
    assert (struck[uniform < 0.135] == 1).all()
    assert (struck[(uniform >= 0.135) & (uniform < 0.27)] == 0).all()
    assert (struck == photograph)[uniform >= 0.27].all()


@pytest.mark.parametrize("seed", range(12))
def test_ice_has_the_colour_and_deviation_of_a_photograph(seed: int) -> None:
    assert weather.FROSTS == PHOTOGRAPHS
    ice = weather.ice((96, 96), np.random.default_rng(seed))
    colour, deviation = PHOTOGRAPHS[int(np.random.default_rng(seed).integers(5))]
    np.testing.assert_allclose(ice.mean((0, 1)), colour, atol=0.03)
    shares = ice.std((0, 1)) / deviation  # some is lost where ice is white
    assert ((shares > 0.7) & (shares < 1.01)).all()
