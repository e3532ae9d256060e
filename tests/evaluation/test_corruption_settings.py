"""Settings of the corruptions, as literals of the released code, and what fixes their randomness."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchclip.data.benchmarks import load_benchmark
from patchclip.errors import ConfigError
from patchclip.evaluation.corruption.views import KINDS, SEVERITIES, SIZE, Corruption, corrupted, framed

RELEASED: dict[str, list[Any]] = {
    "gaussian_noise": [0.08, 0.12, 0.18, 0.26, 0.38],
    "shot_noise": [60, 25, 12, 5, 3],
    "impulse_noise": [0.03, 0.06, 0.09, 0.17, 0.27],
    "defocus_blur": [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
    "glass_blur": [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
    "motion_blur": [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
    "snow": [
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ],
    "frost": [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    "fog": [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
    "brightness": [0.1, 0.2, 0.3, 0.4, 0.5],
    "contrast": [0.4, 0.3, 0.2, 0.1, 0.05],
    "elastic_transform": [
        (244 * 2, 244 * 0.7, 244 * 0.1),
        (244 * 2, 244 * 0.08, 244 * 0.2),
        (244 * 0.05, 244 * 0.01, 244 * 0.02),
        (244 * 0.07, 244 * 0.01, 244 * 0.02),
        (244 * 0.12, 244 * 0.01, 244 * 0.02),
    ],
    "pixelate": [0.6, 0.5, 0.4, 0.3, 0.25],
    "jpeg_compression": [25, 18, 15, 10, 7],
}
"""`c` of every function in ImageNet-C/create_c/make_imagenet_c.py of github.com/hendrycks/robustness."""

RELEASED_ZOOMS = (
    np.arange(1, 1.11, 0.01),
    np.arange(1, 1.16, 0.01),
    np.arange(1, 1.21, 0.02),
    np.arange(1, 1.26, 0.02),
    np.arange(1, 1.31, 0.03),
)
"""Enlargements in that file's zoom_blur."""

ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""Raw errors of AlexNet as github.com/google-research/augmix (imagenet.py) lists them."""


@pytest.mark.parametrize("kind", RELEASED)
def test_settings_are_the_released_ones(kind: str) -> None:
    assert len(KINDS[kind].settings) == len(RELEASED[kind]) == 5
    for ours, theirs in zip(KINDS[kind].settings, RELEASED[kind], strict=True):
        assert ours == pytest.approx(np.atleast_1d(theirs))


def test_zooms_are_the_released_ones() -> None:
    for (step, count), factors in zip(KINDS["zoom_blur"].settings, RELEASED_ZOOMS, strict=True):
        np.testing.assert_allclose([1 + i * step for i in range(int(count))], factors)


def test_errors_of_alexnet_are_the_released_ones() -> None:
    assert {name: kind.alexnet for name, kind in KINDS.items()} == ALEXNET
    assert list(KINDS) == list(ALEXNET)
    assert set(RELEASED) | {"zoom_blur"} == set(ALEXNET)


def gray() -> np.ndarray:
    return np.full((SIZE, SIZE, 3), 0.5, np.float32)


def test_kind_severity_and_number_start_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    def drawing(pixels: np.ndarray, settings: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
        drawn.append(float(rng.random()))
        return pixels

    for name, kind in KINDS.items():
        monkeypatch.setitem(KINDS, name, replace(kind, corrupt=drawing))
    for name, severity, index in itertools.product(KINDS, SEVERITIES, (0, 1, 70000)):
        corrupted(gray(), name, severity, index)
    assert len(set(drawn)) == len(drawn) == 15 * 5 * 3


def test_the_severity_changes_what_is_drawn() -> None:
    one, two = (
        (corrupted(gray(), "impulse_noise", severity, 4) != corrupted(gray(), "contrast", 1, 4)).any(2)
        for severity in (1, 5)
    )
    shared = (one & two).mean() / one.mean()  # all of it, were the same numbers drawn
    assert shared == pytest.approx(two.mean(), abs=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3, 3), (224, 223, 3), (256, 256, 3), (224, 224)])
@pytest.mark.parametrize("kind", ["fog", "frost", "contrast"])
def test_pixels_of_another_size_are_refused(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"float32 of shape \(224, 224, 3\), not float32 of \("):
        corrupted(np.zeros(shape, np.float32), kind, 1, 0)


def test_pixels_of_another_type_and_unknown_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="not uint8 of"):
        corrupted(np.zeros((SIZE, SIZE, 3), np.uint8), "fog", 1, 0)
    with pytest.raises(ConfigError, match="did you mean 'fog'"):
        corrupted(gray(), "fogg", 1, 0)
    with pytest.raises(ConfigError, match="severity=0"):
        corrupted(gray(), "fog", 0, 0)


def test_a_view_is_its_corruption_of_the_framed_image() -> None:
    image: Image.Image = load_benchmark("samples", "zs_photo").images[0]
    pixels = np.asarray(framed(image), np.float32) / 255
    assert np.array_equal(np.asarray(Corruption("fog", 2)(image, 3)), corrupted(pixels, "fog", 2, 3))
