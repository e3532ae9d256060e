"""What holds for every masker, ours and those to come."""

import pytest
import torch

from patchclip import registry
from patchclip.contracts import Masker
from tests.masking._images import noise, rng, tokens

NAMES = registry.names("masking")


@pytest.fixture(params=NAMES)
def masker(request: pytest.FixtureRequest) -> Masker:
    found: Masker = registry.build("masking", request.param)
    return found


def test_the_family_is_there() -> None:
    assert {"none", "pgs", "random"} <= set(NAMES)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "b, h, w, patches", [(3, 28, 28, 49), (2, 16, 24, 6), (1, 8, 32, 16), (1, 8, 8, 1), (2, 8, 4, 2)]
)
def test_indices_are_ascending_unique_and_in_range(
    masker: Masker, b: int, h: int, w: int, patches: int, progress: float
) -> None:
    pixels = torch.randn(b, 3, h, w, generator=rng())
    keep = masker.select(pixels, tokens(b, patches), progress, rng())
    assert keep.dtype == torch.int64
    assert keep.shape == (b, masker.kept(patches, progress))
    assert 1 <= keep.shape[1] <= patches
    assert keep.min() >= 0
    assert keep.max() < patches
    assert (keep.diff(dim=1) > 0).all()


def test_it_is_a_masker(masker: Masker) -> None:
    assert isinstance(masker, Masker)


@pytest.mark.parametrize("progress", [0.0, 0.7, 1.0])
def test_the_number_kept_does_not_depend_on_the_batch(masker: Masker, progress: float) -> None:
    k = masker.kept(49, progress)
    for b, pixels in ((1, noise(1, 28)), (5, noise(5, 28, 1)), (2, torch.zeros(2, 3, 28, 28))):
        assert masker.select(pixels, tokens(b, 49, b), progress, rng(b)).shape == (b, k)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_same_generator_gives_the_same_mask(masker: Masker, progress: float) -> None:
    first, second = (masker.select(noise(3, 28), tokens(3, 49), progress, rng(7)) for _ in range(2))
    assert torch.equal(first, second)


def test_the_inputs_are_left_alone(masker: Masker) -> None:
    pixels, features = noise(2, 28), tokens(2, 49)
    masker.select(pixels, features, 0.5, rng())
    assert torch.equal(pixels, noise(2, 28))
    assert torch.equal(features, tokens(2, 49))


@pytest.mark.parametrize("value", [0.0, 1.0, -1e4])
def test_flat_images_are_masked_too(masker: Masker, value: float) -> None:
    pixels, features = torch.full((2, 3, 28, 28), value), torch.full((2, 49, 8), value)
    for progress in (0.0, 0.5, 1.0):
        keep = masker.select(pixels, features, progress, rng())
        assert keep.shape == (2, masker.kept(49, progress))
        assert (keep.diff(dim=1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_works(masker: Masker, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        keep = masker.select(noise(2, 28).to(dtype), tokens(2, 49).to(dtype), 0.5, rng())
    assert keep.shape == (2, masker.kept(49, 0.5))
    assert (keep.diff(dim=1) > 0).all()


def test_an_image_keeps_its_mask_when_the_others_change(masker: Masker) -> None:
    pixels, features = noise(3, 28), tokens(3, 49)
    expected = masker.select(pixels, features, 0.5, rng())[1]
    pixels[[0, 2]], features[[0, 2]] = -9 * noise(2, 28, 5), 9 * tokens(2, 49, 5)
    assert torch.equal(masker.select(pixels, features, 0.5, rng())[1], expected)
