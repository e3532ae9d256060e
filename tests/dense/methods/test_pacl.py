"""PACL's patches: the head on the tokens of the tower as it runs by itself."""

import pytest
import torch

from patchclip.dense.methods.pacl import PACL
from patchclip.errors import TowerError
from patchclip.models.image_tower import image_tower
from tests.dense.methods._towers import build, pictures, tower


@torch.no_grad()
def test_the_head_reads_open_clips_own_tokens() -> None:
    read, visual, pixels = tower("native"), build("native"), pictures()
    visual.output_tokens = True
    _, tokens = visual(pixels)  # after ln_post, before the projection
    found = PACL()(read, pixels)
    assert found.grid == (4, 4)
    assert read.head is not None
    torch.testing.assert_close(found.features, read.head(tokens), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_head_reads_timms_own_tokens() -> None:
    read, visual, pixels = tower("registers"), build("registers"), pictures()
    tokens = visual.trunk.forward_features(pixels)[:, visual.trunk.num_prefix_tokens :]
    assert read.head is not None
    found = PACL()(read, pixels).features
    torch.testing.assert_close(found, read.head(tokens), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_head_alone_is_trained_and_decides() -> None:
    read, pixels = tower("native"), pictures()
    before = PACL()(read, pixels).features
    assert read.head is not None
    read.head.skip.bias.add_(1.0)  # type: ignore[attr-defined]
    torch.testing.assert_close(PACL()(read, pixels).features, before + 1.0, atol=1e-4, rtol=1e-4)


def test_without_a_head_it_names_the_cure() -> None:
    with pytest.raises(TowerError, match=r"patchclip align.*naclip"):
        PACL()(image_tower(build("native")), pictures())
