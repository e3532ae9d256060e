"""Noise that follows the image."""

import torch

from patchclip.masking._noise import uniform
from patchclip.models.slot import SampleGenerator


def test_a_plain_generator_gives_plain_numbers() -> None:
    found = uniform(3, 5, torch.Generator().manual_seed(1))
    assert torch.equal(found, torch.rand(3, 5, generator=torch.Generator().manual_seed(1)))


def test_parts_of_a_batch_put_together_are_the_batch() -> None:
    whole = uniform(6, 4, torch.Generator().manual_seed(2))
    parts = []
    for first in (0, 2, 4):
        generator = SampleGenerator()
        generator.rows = (first, 6)
        generator.manual_seed(2)
        parts.append(uniform(2, 4, generator))
    assert torch.equal(torch.cat(parts), whole)


def test_later_draws_follow_the_image_too() -> None:
    plain = torch.Generator().manual_seed(3)
    second = [uniform(4, 2, plain), uniform(4, 7, plain)][1]
    generator = SampleGenerator()
    generator.rows = (1, 4)
    generator.manual_seed(3)
    uniform(2, 2, generator)
    assert torch.equal(uniform(2, 7, generator), second[1:3])
