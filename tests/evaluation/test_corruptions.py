import colorsys
import itertools

import numpy as np
import pytest
from PIL import Image

from patchclip.data.benchmarks import load_benchmark
from patchclip.errors import ConfigError
from patchclip.evaluation.corruption import blur, digital, noise, weather
from patchclip.evaluation.corruption.views import (
    KINDS,
    SEVERITIES,
    SIZE,
    Corruption,
    Framed,
    check_severities,
    chosen,
    framed,
)

STEADY = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "motion_blur", "zoom_blur"),
    *("brightness", "contrast", "pixelate", "jpeg_compression"),
)
"""Kinds whose settings grow with the severity; the others are uneven in the released code too."""


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return load_benchmark("samples", "zs_photo").images[0]


def noisy(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, channels)).astype(np.float32)


def change(image: Image.Image, kind: str, severity: int, index: int = 0) -> float:
    clean = np.asarray(framed(image), dtype=float)
    return float(np.abs(np.asarray(Corruption(kind, severity)(image, index), dtype=float) - clean).mean())


def test_fifteen_kinds_have_settings_for_five_severities() -> None:
    assert len(KINDS) == 15
    assert all(len(kind.settings) == len(set(kind.settings)) == 5 for kind in KINDS.values())
    assert all(0.5 < kind.alexnet < 1 for kind in KINDS.values())


@pytest.mark.parametrize("kind", STEADY)
def test_a_photograph_changes_more_with_every_severity(kind: str, photograph: Image.Image) -> None:
    changes = [change(photograph, kind, severity) for severity in SEVERITIES]
    assert changes == sorted(changes)
    assert changes[0] > 0.5


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(STEADY)))
def test_a_photograph_changes_at_every_severity(kind: str, photograph: Image.Image) -> None:
    assert all(change(photograph, kind, severity) > 2 for severity in SEVERITIES)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_severity_and_number_fix_the_pixels(kind: str, photograph: Image.Image) -> None:
    once, again, other = (np.asarray(Corruption(kind, 3)(photograph, i)) for i in (4, 4, 5))
    assert np.array_equal(once, again)
    drawn = kind not in (
        "defocus_blur",
        "zoom_blur",
        "brightness",
        "contrast",
        "pixelate",
        "jpeg_compression",
    )
    assert np.array_equal(once, other) != drawn


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (5, 3), 90),
        Image.new("RGB", (1, 1), (255, 0, 9)),
        Image.new("RGB", (3000, 2), "black"),
        Image.new("RGBA", (40, 300), "white"),
    ],
    ids=["gray", "dot", "strip", "alpha"],
)
def test_every_image_becomes_a_square_of_224(kind: str, image: Image.Image) -> None:
    found = Corruption(kind, 5)(image, 0)
    assert (found.mode, found.size) == ("RGB", (SIZE, SIZE))


def test_framing_keeps_seven_eighths_of_the_shorter_side() -> None:
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[16:240, 144:368] = 200
    assert (np.asarray(framed(Image.fromarray(pixels))) == 200).all()
    assert np.array_equal(Framed()(Image.fromarray(pixels), 3), framed(Image.fromarray(pixels)))


def test_names_tell_views_apart() -> None:
    names = {Corruption(kind, severity).name for kind in KINDS for severity in SEVERITIES} | {Framed().name}
    assert len(names) == 76


def test_kinds_are_chosen_by_name() -> None:
    assert chosen("all") == tuple(KINDS)
    assert chosen("none") == ()
    assert chosen("fog + snow") == ("snow", "fog")


def test_unknown_kinds_and_severities_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'fog'"):
        chosen("snow+fogg")
    with pytest.raises(ConfigError, match="did you mean 'frost'"):
        Corruption("frosty", 1)
    with pytest.raises(ConfigError, match="severity=6"):
        Corruption("fog", 6)
    for wrong in ((), (0,), (1, 1)):
        with pytest.raises(ConfigError, match="from 1 to 5"):
            check_severities(wrong)


def test_gaussian_noise_has_its_deviation() -> None:
    gray = np.full((100, 100, 3), 0.5, np.float32)
    found = noise.gaussian_noise(gray, (0.1,), np.random.default_rng(0)) - gray
    assert found.std() == pytest.approx(0.1, rel=0.02)
    assert found.mean() == pytest.approx(0, abs=0.002)


def test_shot_noise_has_the_variance_of_light() -> None:
    gray = np.full((100, 100, 3), 0.5, np.float32)
    found = noise.shot_noise(gray, (20,), np.random.default_rng(0))
    assert found.mean() == pytest.approx(0.5, rel=0.01)
    assert found.var() == pytest.approx(0.5 / 20, rel=0.03)


def test_impulses_hit_their_share_half_white_half_black() -> None:
    gray = np.full((100, 100, 3), 0.5, np.float32)
    found = noise.impulse_noise(gray, (0.3,), np.random.default_rng(0))
    assert (found == 0).mean() == pytest.approx(0.15, abs=0.01)
    assert (found == 1).mean() == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("edge", ["edge", "symmetric"])
def test_smoothing_is_a_convolution(edge: str) -> None:
    signal = noisy(11, 1)[:, 0, 0]
    radius = int(4 * 3.0 + 0.5)  # reaches beyond both edges
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / 3.0) ** 2)
    slow = np.convolve(np.pad(signal, radius, mode=edge), taps / taps.sum(), mode="valid")
    np.testing.assert_allclose(blur.smoothing(11, 3.0, 4.0, edge) @ signal, slow, atol=1e-6)


def test_zoom_is_bilinear_between_the_outermost_pixels() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[None, :, None], (8, 8, 1)).copy()
    found = blur.zoomed(ramp, 2.0)  # pixels 2 to 5, at 8 places
    np.testing.assert_allclose(found[0, :, 0], 2 + np.arange(8) * 3 / 7, rtol=1e-5)


def test_streaks_follow_the_line() -> None:
    image = noisy(9, 10, 1)
    found = blur.streaked(image, 2, 1.5, 90.0)  # straight down
    weights = np.exp(-0.5 * (np.arange(5) / 1.5) ** 2)
    for y, x in itertools.product(range(9), range(10)):
        slow = sum(w * image[min(y + i, 8), x, 0] for i, w in enumerate(weights / weights.sum()))
        assert found[y, x, 0] == pytest.approx(slow, rel=1e-5)


@pytest.mark.parametrize("radius, softness", [(3, 0.1), (10, 0.5)])
def test_defocus_is_a_convolution_with_a_disk(radius: int, softness: float) -> None:
    image = noisy(24, 30)
    kernel = blur.disk(radius, softness)
    found = blur.defocus_blur(image, (radius, softness), np.random.default_rng(0))
    reach = len(kernel) // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    slow = (padded[5 : 5 + len(kernel), 7 : 7 + len(kernel)] * kernel[..., None]).sum((0, 1))
    np.testing.assert_allclose(found[5, 7], slow, rtol=1e-4)
    assert kernel[reach, reach] == kernel.max()


def test_pixels_behind_glass_are_copied_one_after_the_other() -> None:
    height, width, shift = 16, 19, 3
    moves = np.random.default_rng(1).integers(-shift, shift, (height, width, 2))
    slow = np.arange(height * width).reshape(height, width)
    for y in range(height - shift, shift, -1):
        for x in range(width - shift, shift, -1):
            slow[y, x] = slow[y + moves[y, x, 0], x + moves[y, x, 1]]
    assert np.array_equal(blur.taken_from(moves, shift), slow.ravel())


def test_brightness_keeps_hue_and_saturation() -> None:
    pixels = noisy(4, 5)
    pixels[0, 0] = 0
    found = weather.brightness(pixels, (0.3,), np.random.default_rng(0))
    for y, x in itertools.product(range(4), range(5)):
        hue, saturation, value = colorsys.rgb_to_hsv(*map(float, pixels[y, x]))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.3))
        np.testing.assert_allclose(found[y, x], expected, atol=1e-5)


def test_contrast_keeps_the_mean_and_shrinks_the_deviation() -> None:
    pixels = noisy(20, 20)
    found = digital.contrast(pixels, (0.1,), np.random.default_rng(0))
    np.testing.assert_allclose(found.mean((0, 1)), pixels.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found.std((0, 1)), 0.1 * pixels.std((0, 1)), rtol=1e-4)


def test_fog_is_made_by_midpoints() -> None:
    side, decay = 8, 1.5
    found = weather.plasma(side, decay, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    field, step, height = np.zeros((side, side)), side, 1.0
    while step > 1:
        half, count = step // 2, side // step
        drawn = [height * rng.uniform(-1, 1, (count, count)) for _ in range(3)]
        starts = [(half, half), (0, half), (half, 0)]
        for turn, (noises, (top, left)) in enumerate(zip(drawn, starts, strict=True)):
            near = [(half, half), (half, -half), (-half, half), (-half, -half)]
            near = near if turn == 0 else [(half, 0), (-half, 0), (0, half), (0, -half)]
            for i, j in itertools.product(range(count), range(count)):
                y, x = top + i * step, left + j * step
                around = [field[(y + dy) % side, (x + dx) % side] for dy, dx in near]
                field[y, x] = np.mean(around) + noises[i, j]
        step, height = half, height / decay**2
    np.testing.assert_allclose(found, (field - field.min()) / (field.max() - field.min()), atol=1e-6)


def test_fog_keeps_white_white_at_most() -> None:
    white = np.ones((32, 32, 3), np.float32)
    found = weather.fog(white, (2.0, 2.0), np.random.default_rng(0))
    assert found.max() == pytest.approx(1)
    assert found.min() == pytest.approx(1 / 3)


def test_ice_has_the_look_of_one_of_the_photographs() -> None:
    for seed in range(5):
        ice = weather.ice((64, 64), np.random.default_rng(seed))
        near = [np.abs(ice.mean((0, 1)) - colour).max() < 0.03 for colour, _ in weather.FROSTS]
        assert any(near)
        assert ice.std((0, 1)).max() > 0.03


@pytest.mark.parametrize("edge", ["reflect", "symmetric"])
def test_values_between_pixels_are_bilinear_and_mirrored(edge: str) -> None:
    image = noisy(6, 7)
    x, y = (np.random.default_rng(i).uniform(-4, 9, (6, 7)).astype(np.float32) for i in (1, 2))
    found = digital.sampled(image, x, y, edge)
    padded = np.pad(image, ((5, 5), (5, 5), (0, 0)), mode=edge)  # type: ignore[call-overload]
    for i, j in itertools.product(range(6), range(7)):
        column, row = x[i, j] + 5, y[i, j] + 5
        left, top = int(np.floor(column)), int(np.floor(row))
        right, down = column - left, row - top
        upper = (1 - right) * padded[top, left] + right * padded[top, left + 1]
        lower = (1 - right) * padded[top + 1, left] + right * padded[top + 1, left + 1]
        np.testing.assert_allclose(found[i, j], (1 - down) * upper + down * lower, atol=1e-5)


def test_an_elastic_transform_without_strength_changes_nothing() -> None:
    image = noisy(30, 20)
    found = digital.elastic_transform(image, (0.0, 2.0, 0.0), np.random.default_rng(0))
    np.testing.assert_allclose(found, image, atol=1e-4)


def test_an_elastic_transform_moves_three_points_by_at_most_its_shift() -> None:
    y, x = np.mgrid[:60, :60].astype(np.float32)
    places = np.stack([x, y, x], axis=-1)
    found = digital.elastic_transform(places, (0.0, 2.0, 3.0), np.random.default_rng(0))
    for column, row in ((50, 50), (50, 10), (10, 10)):
        assert np.abs(found[row, column, :2] - (column, row)).max() < 4
    assert np.abs(found - places).max() > 0.5


def test_coarse_pixels_are_means_of_boxes() -> None:
    image = np.zeros((8, 8, 3), np.float32)
    image[:2, :2] = [1, 0, 1]
    image[:2, 2:4] = [0, 1, 1]
    found = digital.pixelate(image, (0.25,), np.random.default_rng(0))  # boxes of 4 x 4
    np.testing.assert_allclose(found[:4, :4], np.broadcast_to([0.25, 0.25, 0.5], (4, 4, 3)), atol=0.01)
    assert not found[4:].any()
    assert not found[:, 4:].any()
