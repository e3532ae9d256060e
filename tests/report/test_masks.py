from pathlib import Path

import numpy as np
import pytest
import torch

from patchclip import registry
from patchclip.models import towers
from patchclip.models.architectures import Architecture, create
from patchclip.report.masks import DROPPED_ALPHA, SIDE, draw_mask, mask_pictures

from ._runs import TINY, picture


@pytest.fixture(scope="module")
def encoder() -> towers.ClipEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture: Architecture = create("ViT-Ti-16", image_size=32, context_length=16, overrides=TINY)
    architecture.model.eval()
    return towers.ClipEncoder(architecture)


def test_kept_patches_are_opaque_and_dropped_ones_all_but_transparent() -> None:
    image = torch.full((4, 6, 3), 200, dtype=torch.uint8)
    drawn = draw_mask(image, torch.tensor([0, 4]), (2, 3))
    assert drawn.share == pytest.approx(2 / 6)
    assert drawn.original.size == drawn.kept.size
    alpha = np.asarray(drawn.kept.getchannel("A"))
    cell = alpha.shape[0] // 2
    assert alpha.shape == (2 * cell, 3 * cell)
    corners = alpha[::cell, ::cell]
    assert corners.tolist() == [[255, DROPPED_ALPHA, DROPPED_ALPHA], [DROPPED_ALPHA, 255, DROPPED_ALPHA]]
    assert (alpha == np.kron(corners, np.ones((cell, cell)))).all()


def test_the_border_outside_whole_patches_is_cut() -> None:
    image = torch.zeros(7, 7, 3, dtype=torch.uint8)
    image[6:, :], image[:, 6:] = 255, 255
    drawn = draw_mask(image, torch.arange(4), (2, 2))
    assert drawn.original.size == (SIDE, SIDE)
    assert np.asarray(drawn.original).max() == 0


def test_mask_pictures_show_the_input_and_the_share(encoder: towers.ClipEncoder) -> None:
    images = [picture(i) for i in range(3)]
    drawn = mask_pictures(encoder, registry.build("masking", "random", mask_ratio=0.5), images)
    assert [p.share for p in drawn] == [0.5] * 3
    colour = np.asarray(drawn[1].original)[2, SIDE // 2]
    assert np.abs(colour.astype(int) - np.array([40, 215, 90])).max() <= 3
    again = mask_pictures(encoder, registry.build("masking", "random", mask_ratio=0.5), images)
    assert [p.kept.tobytes() for p in drawn] == [p.kept.tobytes() for p in again]


def test_a_masker_that_keeps_all_hides_nothing(encoder: towers.ClipEncoder) -> None:
    drawn = mask_pictures(encoder, registry.build("masking", "none"), [picture(0)])
    assert drawn[0].share == 1.0
    assert drawn[0].kept.getchannel("A").getextrema() == (255, 255)


def test_no_images_no_pictures(encoder: towers.ClipEncoder, tmp_path: Path) -> None:
    assert mask_pictures(encoder, registry.build("masking", "random"), []) == []
