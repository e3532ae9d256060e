"""Dense CLIP keeps everything."""

import pytest

from patchclip.masking.none import NoMask
from tests.masking._images import noise, rng, tokens


@pytest.mark.parametrize("patches, side", [(1, 8), (9, 12), (49, 28)])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_every_patch_is_kept_in_order(patches: int, side: int, progress: float) -> None:
    masker = NoMask()
    assert masker.kept(patches, progress) == patches
    keep = masker.select(noise(3, side), tokens(3, patches), progress, rng())
    assert keep.tolist() == [list(range(patches))] * 3


def test_the_generator_is_not_used() -> None:
    generator = rng()
    before = generator.get_state()
    NoMask().select(noise(1, 12), tokens(1, 9), 0.0, generator)
    assert generator.get_state().equal(before)
