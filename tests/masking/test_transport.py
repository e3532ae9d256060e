"""Cosines against numpy, log-Sinkhorn against the POT library."""

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from patchclip.masking._transport import cosine_to_all, log_sinkhorn, patch_colours
from tests.masking._images import noise, rng, tokens


def similarity(patches: int, seed: int = 0) -> Tensor:
    return cosine_to_all(tokens(1, patches, seed))


def clusters() -> Tensor:
    """Cosines of an image with a large even background and a small object."""
    features = 0.05 * tokens(1, 64, 7)
    features[:, 50:, 0] += 3
    return cosine_to_all(features)


def test_cosines_are_those_of_centred_features() -> None:
    features = tokens(2, 9, width=5) + 4
    for image, found in zip(features.double().numpy(), cosine_to_all(features), strict=True):
        centred = image - image.mean(axis=0)
        lengths = np.linalg.norm(centred, axis=1)
        expected = centred @ centred.T / np.outer(lengths, lengths)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_cosines_do_not_change_with_an_offset_common_to_all() -> None:
    features = tokens(1, 12)
    torch.testing.assert_close(cosine_to_all(features + 10), cosine_to_all(features), atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.3, 2.0, -200.0])
def test_in_a_flat_image_all_patches_are_alike(value: float) -> None:
    found = cosine_to_all(torch.full((2, 9, 4), value))
    torch.testing.assert_close(found, found[:, :1, :1].expand(2, 9, 9))
    torch.testing.assert_close(
        log_sinkhorn(found / 0.1, 8).exp(), torch.full((2, 9, 9), 1 / 9), atol=1e-3, rtol=0
    )


def test_a_patch_equal_to_the_mean_has_cosine_zero_to_every_other() -> None:
    found = cosine_to_all(torch.tensor([[[1.0, 0], [-1, 0], [0, 0]]]))[0]
    torch.testing.assert_close(found, torch.tensor([[1.0, -1, 0], [-1, 1, 0], [0, 0, 0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_computed_in_float32(dtype: torch.dtype) -> None:
    features = tokens(1, 9).to(dtype)
    found = cosine_to_all(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, cosine_to_all(features.float()))


def test_a_patch_finds_its_own_colours_at_its_index() -> None:
    grid, cells, side = (2, 3), 2, 4
    pixels = torch.zeros(1, 3, grid[0] * side, grid[1] * side)
    for patch in range(6):
        top, left = patch // 3 * side, patch % 3 * side
        for cell in range(cells * cells):
            y, x = top + cell // cells * 2, left + cell % cells * 2
            for channel in range(3):
                pixels[0, channel, y : y + 2, x : x + 2] = 100 * patch + 10 * channel + cell
    found = patch_colours(pixels, grid, cells)
    expected = [
        [100.0 * p + 10 * channel + cell for channel in range(3) for cell in range(4)] for p in range(6)
    ]
    assert found[0].tolist() == expected


def test_colours_are_means_over_the_cells() -> None:
    pixels = noise(2, 16)
    found = patch_colours(pixels, (2, 2), cells=1)
    torch.testing.assert_close(found[:, 3], pixels[:, :, 8:, 8:].mean(dim=(2, 3)))
    assert patch_colours(pixels, (2, 2)).shape == (2, 4, 48)


@pytest.mark.parametrize("temperature", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_plan_is_that_of_pot(temperature: float, seed: int) -> None:
    patches = 25
    kernel = similarity(patches, seed).double()
    uniform = np.full(patches, 1 / patches)
    cost = -kernel[0].numpy()
    expected = ot.sinkhorn(
        uniform, uniform, cost, temperature, method="sinkhorn_log", numItermax=5000, stopThr=1e-12
    )
    found = log_sinkhorn(kernel / temperature, 200).exp()[0].numpy()
    np.testing.assert_allclose(found, patches * expected, atol=1e-4)


def test_the_plan_of_a_clustered_image_is_that_of_pot() -> None:
    kernel = clusters().double()
    uniform = np.full(64, 1 / 64)
    expected = ot.bregman.sinkhorn_log(
        uniform, uniform, -kernel[0].numpy(), 0.1, numItermax=5000, stopThr=1e-7
    )
    np.testing.assert_allclose(log_sinkhorn(kernel / 0.1, 200).exp()[0].numpy(), 64 * expected, atol=1e-4)


@pytest.mark.parametrize(
    "kernel",
    [
        similarity(49),
        similarity(196),
        cosine_to_all(patch_colours(noise(1, 56, 2), (14, 14))),
        clusters(),
        cosine_to_all(torch.full((1, 49, 4), 0.5)),
    ],
    ids=["tokens-49", "tokens-196", "noise", "clusters", "flat"],
)
def test_eight_updates_are_doubly_stochastic_to_two_thousandths(kernel: Tensor) -> None:
    plan = log_sinkhorn(kernel / 0.1, 8).exp()
    ones = torch.ones_like(plan[..., 0])
    torch.testing.assert_close(plan.sum(dim=2), ones, atol=2e-3, rtol=0)
    torch.testing.assert_close(plan.sum(dim=1), ones, atol=2e-3, rtol=0)
    torch.testing.assert_close(plan, plan.transpose(1, 2), atol=1e-6, rtol=1e-5)


def test_two_patches_by_hand() -> None:
    plan = log_sinkhorn(torch.tensor([[[2.0, 0], [0, 2]]]), 30).exp()[0]
    e2 = torch.tensor(2.0).exp()
    torch.testing.assert_close(
        plan, torch.stack([e2, torch.tensor(1.0), torch.tensor(1.0), e2]).view(2, 2) / (e2 + 1)
    )


def test_a_constant_added_to_every_similarity_changes_nothing() -> None:
    kernel = similarity(25) / 0.1
    expected = log_sinkhorn(kernel, 60)
    torch.testing.assert_close(log_sinkhorn(kernel + 37, 60), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(log_sinkhorn(kernel - 37, 60), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("temperature", [0.01, 1e-4, 100.0])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    for kernel in (similarity(49, 4), clusters(), 2 * torch.eye(16)[None] - 1):
        plan = log_sinkhorn(kernel / temperature, 8).exp()
        assert plan.isfinite().all()
        assert (plan >= 0).all()
        assert plan.sum() > 0


def test_each_image_is_balanced_for_itself() -> None:
    kernel = torch.cat([similarity(25, s) for s in range(3)]) / 0.1
    alone = torch.cat([log_sinkhorn(k[None], 8) for k in kernel])
    torch.testing.assert_close(log_sinkhorn(kernel, 8), alone)


def test_patches_that_move_take_their_mass_along() -> None:
    kernel = similarity(25) / 0.1
    order = torch.randperm(25, generator=rng(5))
    moved = log_sinkhorn(kernel[:, order][:, :, order], 8)
    torch.testing.assert_close(moved, log_sinkhorn(kernel, 8)[:, order][:, :, order], atol=1e-5, rtol=0)
