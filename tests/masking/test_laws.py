"""What holds for every masker, ours and those to come."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from patchclip import registry
from patchclip.contracts import Guided, Masker, Resizing
from patchclip.errors import ConfigError
from patchclip.masking._edges import patch_grid
from patchclip.models.slot import SampleGenerator
from tests.masking._images import noise, rng, tokens

NAMES = registry.names("masking")


@pytest.fixture(params=NAMES)
def masker(request: pytest.FixtureRequest) -> Masker:
    return build(request.param)


def build(name: str, **options: Any) -> Masker:
    """A masker with its defaults; one that asks for a guide gets the mean brightness as its scores."""
    found: Masker = registry.build("masking", name, **options)
    if isinstance(found, Guided):
        found.scorer = brightness
    return found


def brightness(pixels: Tensor, patches: int) -> Tensor:
    """Mean of each patch [b, l]."""
    rows, columns = patch_grid(pixels, patches)
    return F.adaptive_avg_pool2d(pixels.float().mean(dim=1, keepdim=True), (rows, columns)).flatten(1)


def test_the_family_is_there() -> None:
    assert {"none", "random", "resize", "grid", "block", "pgs"} <= set(NAMES)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "b, h, w, patches", [(3, 28, 28, 49), (2, 16, 24, 6), (1, 8, 32, 16), (1, 8, 8, 1), (2, 8, 4, 2)]
)
def test_indices_are_ascending_unique_and_in_range(
    masker: Masker, b: int, h: int, w: int, patches: int, progress: float
) -> None:
    if isinstance(masker, Resizing) and h != w:
        pytest.skip("resizing needs square images")
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


def test_a_mask_follows_its_image_into_a_part_of_the_batch(masker: Masker) -> None:
    """As on another rank, or in a micro-batch: rows 2 and 3 of a batch of six."""
    pixels, features = noise(6, 28), tokens(6, 49)
    whole = masker.select(pixels, features, 0.5, rng(3))
    generator = SampleGenerator()
    generator.rows = (2, 6)
    generator.manual_seed(3)
    part = masker.select(pixels[2:4], features[2:4], 0.5, generator)
    assert torch.equal(part, whole[2:4])


def test_no_gradient_goes_through_the_choice(masker: Masker) -> None:
    pixels, features = noise(2, 28).requires_grad_(), tokens(2, 49).requires_grad_()
    keep = masker.select(pixels, features, 0.5, rng())
    assert not keep.requires_grad
    assert pixels.grad is None


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_nothing_waits_for_the_device(masker: Masker, progress: float) -> None:
    """With tensors that have shapes but no numbers, reading a number (`.item()`, `if x.any()`) fails."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        pixels, features = torch.zeros(2, 3, 28, 28), torch.zeros(2, 49, 8)
        keep = masker.select(pixels, features, progress, rng())
    assert keep.shape == (2, masker.kept(49, progress))


SCHEDULED = [name for name in NAMES if "mask_ratio" in registry.options("masking", name)]


def test_all_but_the_dense_one_have_a_ratio() -> None:
    assert set(NAMES) - set(SCHEDULED) == {"none"}


@pytest.mark.parametrize("name", SCHEDULED)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_every_ratio_can_be_walked(name: str, schedule: str) -> None:
    found = build(name, mask_ratio=(0.75, 0.0), schedule=schedule)
    kept = [found.kept(196, step / 20) for step in range(21)]
    assert kept == sorted(kept)
    assert kept[-1] == 196
    assert len(set(kept)) == 5
    keep = found.select(noise(1, 56), tokens(1, 196), 0.5, rng())
    assert keep.shape[1] == found.kept(196, 0.5)


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_ratio_of_zero_keeps_everything(name: str) -> None:
    found = build(name, mask_ratio=0.0)
    assert found.select(noise(2, 28), tokens(2, 49), 0.5, rng()).tolist() == [list(range(49))] * 2


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_ratio_of_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="mask_ratio"):
        build(name, mask_ratio=1.0)
