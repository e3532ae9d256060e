"""What holds for every dense method, ours and those to come, on every kind of tower."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip import registry
from patchclip.contracts import DenseMethod
from tests.dense.methods._towers import EMBEDDING, KINDS, OnesTower, build, method, pictures, tower

NAMES = registry.names("dense")
ROW_SUMS = {
    **{"maskclip": 1, "clearclip": 1, "naclip": 1, "proxyclip": 1, "sclip": 2},
    **{"resclip": 2, "clip_surgery": 6, "gem": 6},
}
"""Sum of the weights of a patch by method: over both correlations, times tau, over the blocks of a path."""
WITH_RESIDUAL = ("maskclip", "sclip", "clip_surgery", "gem")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def dense(name: str) -> DenseMethod:
    with torch.random.fork_rng():
        torch.manual_seed(5)  # a proxy without weights
        return method(name)


def test_the_family_is_there() -> None:
    assert {"raw", "maskclip", "clip_surgery", "gem", "sclip", "clearclip"} <= set(NAMES)
    assert {"naclip", "resclip", "proxyclip", "pacl"} <= set(NAMES)


def test_it_is_a_frozen_method_with_a_source_and_plain_options(dense: DenseMethod, name: str) -> None:
    assert isinstance(dense, DenseMethod)
    with pytest.raises(dataclasses.FrozenInstanceError):
        dense.anything = 1  # type: ignore[attr-defined]
    assert {entry.name: entry.source for entry in registry.describe("dense")}[name]
    for option in registry.options("dense", name).values():
        assert option.default is None or isinstance(option.default, int | float | str | bool | tuple)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@torch.no_grad()
def test_features_lie_on_the_grid(dense: DenseMethod, kind: str, size: tuple[int, int]) -> None:
    found = dense(tower(kind), pictures(2, *size))
    assert found.grid == (size[0] // 8, size[1] // 8)
    assert found.features.shape == (2, found.grid[0] * found.grid[1], EMBEDDING)
    assert found.features.dtype == torch.float32
    assert found.features.isfinite().all()
    assert found.features.std(dim=1).min() > 0  # patches differ


@torch.no_grad()
def test_overlapping_patches_are_more_patches(dense: DenseMethod) -> None:
    found = dense(tower("native", step=4), pictures(1, 32, 24))
    assert found.grid == (7, 5)
    assert found.features.shape == (1, 35, EMBEDDING)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch(dense: DenseMethod, kind: str) -> None:
    read, pixels = tower(kind), pictures(3)
    together = dense(read, pixels).features
    alone = torch.cat([dense(read, pixels[i : i + 1]).features for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_pixels(dense: DenseMethod, kind: str) -> None:
    pixels = pictures().requires_grad_()
    dense(tower(kind), pixels).features.square().sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    assert (pixels.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_half_precision_stays_near(dense: DenseMethod, kind: str, dtype: torch.dtype) -> None:
    read, pixels = tower(kind), pictures()
    exact = dense(read, pixels).features
    with torch.autocast("cpu", dtype=dtype):
        found = dense(read, pixels).features
    assert found.isfinite().all()
    assert F.cosine_similarity(found.float(), exact, dim=-1).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_model_gives_what_it_gave_before(dense: DenseMethod, kind: str) -> None:
    visual, pixels = build(kind), pictures()
    image = visual(pixels)
    state = {key: value.clone() for key, value in visual.state_dict().items()}
    dense(dataclasses.replace(tower(kind), visual=visual), pixels)
    assert torch.equal(visual(pixels), image)
    assert all(torch.equal(value, state[key]) for key, value in visual.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in visual.modules())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_weights_of_a_patch_sum_to_what_the_formula_says(dense: DenseMethod, name: str, kind: str) -> None:
    if name not in ROW_SUMS:
        pytest.skip("it has no weights of its own")
    ones, pixels = OnesTower(tower(kind)), pictures(2, 24, 32)
    read = dense(ones, pixels).features
    if name in WITH_RESIDUAL:
        read = read - ones.embed(pixels)[0][:, ones.prefix :]
    torch.testing.assert_close(read, torch.full_like(read, ROW_SUMS[name]), atol=1e-4, rtol=1e-4)


def test_a_similarity_of_its_own_is_linear_in_the_patches(dense: DenseMethod) -> None:
    if not hasattr(dense, "similarity"):
        pytest.skip("its similarity is the cosine")
    generator = torch.Generator().manual_seed(2)
    first, second = (torch.randn(2, 5, 8, generator=generator) for _ in range(2))
    texts = F.normalize(torch.randn(4, 8, generator=generator), dim=-1)
    mean: Tensor = dense.similarity((first + second) / 2, texts)
    assert mean.shape == (2, 5, 4)
    torch.testing.assert_close(mean, (dense.similarity(first, texts) + dense.similarity(second, texts)) / 2)
