"""The transforms equal open_clip's, pixel by pixel."""

import pickle

import numpy as np
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform import image_transform
from PIL import Image

from patchclip.data import transforms
from patchclip.errors import ConfigError


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).convert(mode)


SIZES = [(40, 30), (31, 64), (32, 32), (200, 50), (9, 5)]


def test_constants_are_those_of_open_clip() -> None:
    assert transforms.OPENAI_MEAN == OPENAI_DATASET_MEAN
    assert transforms.OPENAI_STD == OPENAI_DATASET_STD


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
@pytest.mark.parametrize("size", SIZES)
def test_evaluation_equals_open_clip(size: tuple[int, int], mode: str) -> None:
    image = picture(*size, mode)
    ours, theirs = transforms.eval_transform(32)(image), image_transform(32, is_train=False)(image)
    assert ours.dtype == torch.float32
    assert ours.shape == (3, 32, 32)
    assert torch.equal(ours, theirs)
    assert torch.equal(transforms.train_transform(32, "none")(image), theirs)


@pytest.mark.parametrize("size", SIZES)
def test_training_equals_open_clip_for_equal_seeds(size: tuple[int, int]) -> None:
    image, theirs = picture(*size), image_transform(24, is_train=True)
    results = []
    for transform in (transforms.train_transform(24), theirs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            results.append(torch.stack([transform(image) for _ in range(3)]))
    assert torch.equal(results[0], results[1])
    varies = not torch.equal(results[0][0], results[0][1])
    assert varies or size not in {(40, 30), (32, 32)}


def test_other_means_equal_open_clip() -> None:
    half = (0.5, 0.5, 0.5)
    theirs = image_transform(16, is_train=False, mean=half, std=half)
    assert torch.equal(
        transforms.eval_transform(16, mean=half, std=half)(picture(20, 30)), theirs(picture(20, 30))
    )


def test_light_mirrors_half_and_changes_colours() -> None:
    dark, bright = Image.new("RGB", (32, 32)), Image.new("RGB", (16, 32), (200, 200, 200))
    dark.paste(bright, (0, 0))
    transform = transforms.train_transform(32, "light")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = torch.stack([transform(dark) for _ in range(200)])
    left, right = seen[:, :, :, :4].mean((1, 2, 3)), seen[:, :, :, -4:].mean((1, 2, 3))
    mirrored = (right > left).float().mean()
    assert 0.35 < mirrored < 0.65
    assert seen.amax((1, 2, 3)).std() > 0.05
    assert seen.isfinite().all()


def test_denormalise_inverts_the_transform() -> None:
    image = picture(32, 32)
    pixels = transforms.eval_transform(32)(image)[None]
    assert np.array_equal(transforms.denormalise(pixels)[0].numpy(), np.asarray(image))
    assert transforms.denormalise(pixels.to(torch.bfloat16)).dtype == torch.uint8
    outside = torch.tensor([-99.0, 99.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert transforms.denormalise(outside).flatten().tolist() == [0, 0, 0, 255, 255, 255]


@pytest.mark.parametrize("augment", ["open_clip", "light", "none"])
def test_transforms_reach_worker_processes(augment: str) -> None:
    copy = pickle.loads(pickle.dumps(transforms.train_transform(8, augment)))  # noqa: S301
    assert copy(picture(10, 12)).shape == (3, 8, 8)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match=r"augment='ligth' is unknown: did you mean 'light'\?"):
        transforms.train_transform(8, "ligth")
    with pytest.raises(ConfigError, match="image_size=0 must be at least 1"):
        transforms.eval_transform(0)
