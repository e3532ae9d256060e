"""Sobel edges against torch's convolution and hand arithmetic, and the patches they protect."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._edges import (
    DETECTORS,
    LUMA,
    colour_contrast,
    edge_energy,
    patch_grid,
    protected,
    salience,
    sobel_magnitude,
)
from tests.masking._images import noise


def gray(values: Tensor) -> Tensor:
    """A picture [1, 3, h, w] whose luminance is `values` [h, w]."""
    return values.expand(1, 3, -1, -1)


def test_sobel_is_the_convolution_with_the_two_kernels() -> None:
    pixels = noise(3, 12)[:, :, :, :10]
    luminance = (pixels.double() * torch.tensor(LUMA).double()[:, None, None]).sum(dim=1, keepdim=True)
    across = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]).double()[None, None]
    gx, gy = F.conv2d(luminance, across), F.conv2d(luminance, across.transpose(2, 3))
    expected = (gx**2 + gy**2).sqrt()[:, 0]
    found = sobel_magnitude(pixels)
    assert found.shape == (3, 12, 10)
    torch.testing.assert_close(found[:, 1:-1, 1:-1].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
def test_a_step_of_height_one_has_magnitude_four_on_both_sides(turned: bool) -> None:
    step = torch.zeros(6, 6)
    step[:, 3:] = 1
    found = sobel_magnitude(gray(step.T if turned else step))[0]
    expected = torch.zeros(6, 6)
    expected[:, 2:4] = 4
    torch.testing.assert_close(found, expected.T if turned else expected, atol=1e-6, rtol=0)


def test_a_ramp_has_eight_times_its_slope() -> None:
    ramp = 0.1 * torch.arange(7.0).expand(5, 7)  # (1 + 2 + 1) * (x + 1 - (x - 1)) * slope
    torch.testing.assert_close(sobel_magnitude(gray(ramp)), torch.full((1, 5, 7), 0.8), atol=1e-6, rtol=0)


def test_a_diagonal_ramp_has_the_length_of_both_slopes() -> None:
    down, across = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    found = sobel_magnitude(gray(0.3 * down + 0.4 * across))
    torch.testing.assert_close(found, torch.full((1, 6, 6), 8 * 0.5), atol=1e-5, rtol=0)


def test_colours_count_by_their_luminance() -> None:
    step = torch.zeros(1, 3, 6, 6)
    step[:, 1, :, 3:] = 1
    assert sobel_magnitude(step)[0, 3, 3].item() == pytest.approx(4 * 0.587)


def test_the_border_repeats_the_magnitude_beside_it() -> None:
    found = sobel_magnitude(noise(2, 9))
    torch.testing.assert_close(found[:, 0], found[:, 1])
    torch.testing.assert_close(found[:, -1], found[:, -2])
    torch.testing.assert_close(found[:, :, 0], found[:, :, 1])
    torch.testing.assert_close(found[:, :, -1], found[:, :, -2])
    assert not torch.equal(found[:, 1], found[:, 2])


def test_a_bright_frame_has_no_edge_at_the_border() -> None:
    assert sobel_magnitude(torch.full((1, 3, 8, 8), 3.0)).count_nonzero() == 0


def test_half_precision_pixels_are_computed_in_float32() -> None:
    pixels = noise(1, 8).half()
    found = sobel_magnitude(pixels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sobel_magnitude(pixels.float()))


def test_energy_is_the_mean_of_each_patch_row_by_row() -> None:
    pixels = noise(2, 12)[:, :, :8]  # 8 x 12: 2 rows of 3 patches of 4 px
    magnitude = sobel_magnitude(pixels)
    expected = [
        magnitude[:, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean(dim=(1, 2)) for r in (0, 1) for c in (0, 1, 2)
    ]
    torch.testing.assert_close(edge_energy(pixels, 6), torch.stack(expected, dim=1))


def test_energy_rises_with_contrast() -> None:
    pixels = 0.1 * noise(1, 16)
    louder = pixels.clone()
    louder[:, :, 4:8, 8:12] *= 5  # patch 6 of a 4 x 4 grid
    before, after = edge_energy(pixels, 16)[0], edge_energy(louder, 16)[0]
    assert after[6] > 2 * before[6]
    assert int((after - before).argmax()) == 6
    far = [0, 4, 8, 12, 13, 14, 15]  # no pixel of theirs touches patch 6
    torch.testing.assert_close(after[far], before[far])
    torch.testing.assert_close(edge_energy(2 * pixels, 16)[0], 2 * before)


@pytest.mark.parametrize(
    "h, w, patches, grid", [(32, 32, 16, (4, 4)), (32, 64, 8, (2, 4)), (48, 16, 3, (3, 1)), (5, 5, 1, (1, 1))]
)
def test_the_grid_of_square_patches(h: int, w: int, patches: int, grid: tuple[int, int]) -> None:
    assert patch_grid(torch.zeros(1, 3, h, w), patches) == grid


@pytest.mark.parametrize(
    "h, w, patches", [(32, 32, 15), (33, 32, 16), (32, 34, 16), (4, 4, 100), (32, 32, 8), (16, 16, 257)]
)
def test_patches_that_do_not_tile_the_image_are_refused(h: int, w: int, patches: int) -> None:
    with pytest.raises(ConfigError, match=f"{patches} square patches cannot tile {h} x {w}"):
        patch_grid(torch.zeros(1, 3, h, w), patches)


@pytest.mark.parametrize(
    "share, count", [(0.0, 0), (0.3, 30), (0.29, 29), (0.305, 30), (0.99, 99), (1.0, 100)]
)
def test_the_share_with_the_highest_energy_is_protected(share: float, count: int) -> None:
    energy = torch.randperm(100, generator=torch.Generator().manual_seed(3)).float()[None]
    found = protected(energy, share)
    assert int(found.sum()) == count
    assert set(energy[found].tolist()) == set(range(100 - count, 100))


def test_nothing_is_protected_in_a_flat_image() -> None:
    assert not protected(torch.full((2, 50), 0.7), 0.3).any()
    assert not protected(torch.zeros(2, 50), 0.3).any()


def test_ties_at_the_threshold_are_not_protected() -> None:
    energy = torch.tensor([[0.0, 0, 0, 1, 1, 1, 1, 2, 2, 3]])  # the upper 40 % begin inside the ties at 1
    assert protected(energy, 0.4).tolist() == (energy > 1).tolist()
    assert int(protected(energy, 0.3).sum()) == 3


def test_each_image_has_its_own_threshold() -> None:
    energy = torch.stack([torch.arange(10.0), 100 + torch.arange(10.0)])
    assert protected(energy, 0.2).sum(dim=1).tolist() == [2, 2]


KERNELS = {
    "sobel": [[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]],
    "scharr": [
        [[-0.75, 0, 0.75], [-2.5, 0, 2.5], [-0.75, 0, 0.75]],
        [[-0.75, -2.5, -0.75], [0, 0, 0], [0.75, 2.5, 0.75]],
    ],
    "laplacian": [[[0, 1, 0], [1, -4, 1], [0, 1, 0]]],
}


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_each_detector_is_the_convolution_with_its_kernels(detector: str) -> None:
    pixels = noise(2, 12)[:, :, :, :9]
    luminance = (pixels.double() * torch.tensor(LUMA).double()[:, None, None]).sum(dim=1, keepdim=True)
    kernels = torch.tensor(KERNELS[detector]).double()[:, None]
    expected = F.conv2d(luminance, kernels).norm(dim=1)
    found = DETECTORS[detector](pixels)
    torch.testing.assert_close(found[:, 1:-1, 1:-1].double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 0], found[:, 1])


def test_the_laplacian_does_not_see_a_ramp() -> None:
    ramp = gray(0.1 * torch.arange(7.0).expand(5, 7))
    assert float(DETECTORS["laplacian"](ramp).abs().max()) < 1e-6


def test_colour_contrast_is_the_distance_from_the_surroundings() -> None:
    pixels = noise(2, 28)[:, :, :24]  # 6 x 7 patches of 4 px
    colours = F.avg_pool2d(pixels, 4).double()
    for r in range(6):
        for c in range(7):
            around = colours[:, :, max(0, r - 2) : r + 3, max(0, c - 2) : c + 3].flatten(2)
            n = around.shape[2]
            away = (colours[:, :, r, c] - around.mean(dim=2)).norm(dim=1) * (n / (n - 1)) ** 0.5
            torch.testing.assert_close(
                colour_contrast(pixels, 42)[:, 7 * r + c].double(), away - 1e-3, atol=1e-5, rtol=1e-5
            )


def test_borders_have_no_more_contrast_than_the_rest_on_noise() -> None:
    contrast = colour_contrast(noise(400, 56), 196).unflatten(1, (14, 14))
    error = contrast.mean(dim=(1, 2)).std() / 20
    for part in (contrast[:, 0], contrast[:, -1], contrast[:, :, 0], contrast[:, :, -1]):
        assert abs(float(part.mean() - contrast.mean())) < 6 * float(error)


@pytest.mark.parametrize("value", [0.0, 0.7, -2.1])
def test_flat_images_have_no_contrast(value: float) -> None:
    assert colour_contrast(torch.full((1, 3, 28, 28), value), 49).count_nonzero() == 0
    assert colour_contrast(torch.full((1, 3, 8, 8), value), 1).count_nonzero() == 0


def test_salience_adds_both_over_their_means() -> None:
    pixels = noise(2, 16)
    energy, colours = edge_energy(pixels, 16), colour_contrast(pixels, 16)
    expected = energy / energy.mean(dim=1, keepdim=True) + 0.5 * colours / colours.mean(dim=1, keepdim=True)
    torch.testing.assert_close(salience(pixels, 16, "sobel", 0.5), expected)
    torch.testing.assert_close(salience(pixels, 16, "sobel", 0.0), energy)
