"""The double ellipsoid: its identities by brute force, its shapes where they were planted."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.errors import ConfigError, DataError
from patchclip.geometry.analyses import double_ellipsoid as de
from patchclip.losses.clip import ClipLoss
from tests.geometry.analyses._pairs import pairs, sphere

IMAGE, TEXT = pairs(80)


def cosines(rows: Tensor, others: Tensor) -> Tensor:
    return F.normalize(rows, dim=-1) @ F.normalize(others, dim=-1).T


def test_conformity_is_the_mean_of_all_cosines() -> None:
    torch.testing.assert_close(de.conformity(IMAGE), cosines(IMAGE, IMAGE).mean(1), rtol=0, atol=1e-14)
    torch.testing.assert_close(de.conformity(IMAGE, TEXT), cosines(IMAGE, TEXT).mean(1), rtol=0, atol=1e-14)


def test_conformity_without_the_row_itself_has_the_same_order() -> None:
    table = cosines(IMAGE, IMAGE)
    without = (table.sum(1) - 1) / 79
    torch.testing.assert_close((80 * de.conformity(IMAGE) - 1) / 79, without)
    assert torch.equal(without.argsort(), de.conformity(IMAGE).argsort())


def test_the_notebooks_conformity_is_too_large_by_the_length_of_the_mean() -> None:
    units = F.normalize(IMAGE, dim=-1)
    theirs = units @ F.normalize(units.mean(0), dim=0)
    torch.testing.assert_close(theirs * units.mean(0).norm(), de.conformity(IMAGE))
    assert (theirs - cosines(IMAGE, IMAGE).mean(1)).abs().max() > 0.05


def test_the_estimate_is_near_and_its_slope_is_one_over_the_mean() -> None:
    shell = sphere(400, 64) + 2 * F.normalize(torch.ones(64).double(), dim=0)
    found = de.DoubleEllipsoid()(shell, shell)
    assert found["image_estimate"] > 0.999
    mean = F.normalize(shell, dim=-1).mean(0).norm()
    assert found["image_slope"] == pytest.approx(1 / mean.item(), rel=0.01)


def test_shapes_that_were_planted() -> None:
    generator = torch.Generator().manual_seed(0)
    ball = torch.randn(20000, 50, generator=generator).double()
    stretched, tilted = ball.clone(), ball.clone()
    stretched[:, 0] *= 10
    tilted[:, 1] = (tilted[:, 1] + tilted[:, 0]) / math.sqrt(2)
    found = de.DoubleEllipsoid()(stretched, tilted + 4)
    plain = de.DoubleEllipsoid()(ball, ball)
    assert plain["image_radius"] == pytest.approx(math.sqrt(49.5), rel=0.01)
    assert plain["image_thickness"] == pytest.approx(0.1, rel=0.05)  # sqrt(1 / 2) / sqrt(50)
    assert plain["image_stretch"] == pytest.approx(1, rel=0.05)
    assert plain["image_tilt"] < 0.1
    assert plain["image_offset"] == pytest.approx(0, abs=0.02)
    assert found["image_stretch"] == pytest.approx(100, rel=0.05)
    assert found["text_tilt"] == pytest.approx(math.sqrt(1 / 51), rel=0.1)
    assert found["text_offset"] == pytest.approx(4, rel=0.01)
    assert found["text_norm"] == pytest.approx(math.sqrt(50 * 17), rel=0.01)


def test_two_numbers_tell_clouds_apart_that_lie_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 400, 30, generator=generator).double()
    other[:, 7] += 20
    assert de.DoubleEllipsoid()(one, other)["two_numbers"] == 1
    other[:, 7] -= 20
    assert de.DoubleEllipsoid()(one, other)["two_numbers"] == pytest.approx(0.5, abs=0.1)


def test_arrays_for_pictures() -> None:
    torch.testing.assert_close(de.norms(IMAGE), IMAGE.norm(dim=1))
    torch.testing.assert_close(de.norms(IMAGE, TEXT[0]), (IMAGE - TEXT[0]).norm(dim=1))
    torch.testing.assert_close(de.variances(IMAGE), IMAGE.var(0))
    torch.testing.assert_close(de.spectrum(IMAGE), torch.linalg.eigvalsh(torch.cov(IMAGE.T)).flip(0))
    assert de.spectrum(IMAGE[:3]).min() >= 0


def test_divergence_by_hand() -> None:
    one, other = torch.tensor([0.0, 0.1, 0.2, 1.0]), torch.tensor([0.0, 0.9])
    p, q = (4 / 6, 2 / 6), (2 / 4, 2 / 4)
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert de.divergence(one, other, bins=2).item() == pytest.approx(expected)
    assert de.divergence(one, one).item() == 0
    with pytest.raises(DataError, match="got 4 and 0"):
        de.divergence(one, other[:0])


def test_the_curve_is_the_loss_of_shifted_embeddings() -> None:
    alphas = (-0.5, 0.0, 1.0)
    found = de.shift_curve(IMAGE, TEXT, alphas, scale=20.0)
    for alpha, loss in zip(alphas, found, strict=True):
        image = F.normalize(IMAGE - alpha * IMAGE.mean(0), dim=-1)
        expected = ClipLoss()(image, F.normalize(TEXT, dim=-1), torch.tensor(20.0).double())["contrastive"]
        torch.testing.assert_close(loss, expected)
    assert found[1].item() == pytest.approx(de.DoubleEllipsoid(scale=20.0)(IMAGE, TEXT)["loss"])


def test_the_curve_of_many_rows_is_that_of_some() -> None:
    few = de.shift_curve(IMAGE, TEXT, (0.0,), 20.0, pairs=8)
    expected = de.shift_curve(IMAGE[::10], TEXT[::10], (0.0,), 20.0)
    torch.testing.assert_close(few, expected)


STEPS = torch.linspace(0, 1, 5).double()
MEAN = IMAGE.mean(0)


def test_vslerp_goes_from_one_end_to_the_other() -> None:
    points = de.vslerp(IMAGE[0], IMAGE[1], STEPS, MEAN)
    torch.testing.assert_close(points[0], IMAGE[0])
    torch.testing.assert_close(points[-1], IMAGE[1])


def test_without_a_shift_unit_rows_stay_of_unit_length_at_even_angles() -> None:
    one, other = sphere(2, 8)
    points = de.vslerp(one, other, STEPS, MEAN, alpha=0.0)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(5).double())
    angles = (points[1:] * points[:-1]).sum(1).acos()
    torch.testing.assert_close(angles, torch.full((4,), (one @ other).acos().item() / 4).double())


def test_a_shift_bends_the_path_around_the_mean() -> None:
    points = de.vslerp(MEAN + sphere(2, 8)[0], MEAN + sphere(2, 8)[1], STEPS, MEAN)
    torch.testing.assert_close((points - MEAN).norm(dim=1), torch.ones(5).double())


def released(step: float, low: Tensor, high: Tensor, mean: Tensor) -> Tensor:
    """vSLERP with an angle for every number, as the released code computes it."""
    low, high = low - mean, high - mean
    angle = torch.acos(low / low.norm() * (high / high.norm()))
    near, far = torch.sin((1 - step) * angle), torch.sin(step * angle)
    return (near * low + far * high) / torch.sin(angle) + mean


def test_the_released_vslerp_leaves_the_sphere() -> None:
    low, other = sphere(2, 8)
    low, high = MEAN + low, MEAN + F.normalize(low + 0.5 * other, dim=0)
    theirs, ours = released(0.5, low, high, MEAN), de.vslerp(low, high, STEPS, MEAN)[2]
    assert (ours - MEAN).norm().item() == pytest.approx(1)
    assert abs((theirs - MEAN).norm().item() - 1) > 0.2
    torch.testing.assert_close(released(0.0, low, high, MEAN), low)


def test_ends_without_an_arc() -> None:
    x = IMAGE[0]
    torch.testing.assert_close(de.vslerp(x, 3 * x, STEPS, MEAN, 0.0), x * torch.linspace(1, 3, 5)[:, None])
    with pytest.raises(DataError, match="opposite ends"):
        de.vslerp(x, -x, STEPS, MEAN, 0.0)
    with pytest.raises(DataError, match="not zero"):
        de.vslerp(MEAN, x, STEPS, MEAN)
    with pytest.raises(ConfigError, match="scale=0"):
        de.DoubleEllipsoid(scale=0)
