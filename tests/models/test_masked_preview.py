"""`preview` shows the masks of training and leaves the model as it was."""

import pytest
import torch

from patchclip.errors import TowerError
from patchclip.masking.none import NoMask
from patchclip.masking.pgs import PGSMask
from patchclip.masking.random import RandomMask
from patchclip.models.masked import attach, preview, slot_of
from tests.models._tiny import build, embed, encoder, hooks, pictures


@pytest.mark.parametrize("kind", ["native", "timm", "eva"])
def test_preview_shows_the_masks_of_training(kind: str) -> None:
    found = encoder(kind)
    pixels = pictures(found.architecture)
    keep = preview(found, PGSMask(0.5), pixels, progress=0.6, seed=4)
    assert not found.model.training
    model = build(kind).model.train()
    slot = attach(model, PGSMask(0.5))
    slot.progress, slot.seed = 0.6, (4,)
    embed(model, pixels)
    assert torch.equal(keep, slot.keep)


@pytest.mark.parametrize("kind", ["native", "timm", "eva"])
def test_preview_of_a_masker_that_keeps_all_shows_all(kind: str) -> None:
    found = encoder(kind)
    gh, gw = found.grid
    keep = preview(found, NoMask(), pictures(found.architecture))
    assert keep.tolist() == [list(range(gh * gw))] * 2


@pytest.mark.parametrize("kind", ["native", "timm", "eva"])
def test_preview_leaves_a_plain_model_plain(kind: str) -> None:
    found = encoder(kind)
    pixels = pictures(found.architecture)
    before = repr(found.model)
    plain = embed(found.model, pixels)
    preview(found, RandomMask(0.5), pixels)
    assert slot_of(found.model) is None
    assert hooks(found.model) == 0
    assert repr(found.model) == before
    assert torch.equal(embed(found.model, pixels), plain)
    torch.testing.assert_close(embed(found.model.train(), pixels), plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["native", "eva"])
def test_preview_gives_an_earlier_slot_its_place_back(kind: str, training: bool) -> None:
    found = encoder(kind)
    model, pixels = found.model.train(), pictures(found.architecture)
    slot = attach(model, RandomMask(0.5))
    slot.progress, slot.seed = 0.3, (7, 7)
    embed(model, pixels)
    earlier = slot.keep
    model.train(training)
    preview(found, PGSMask(0.75), pixels, seed=1)
    assert model.training is training
    assert slot_of(model) is slot
    assert (slot.progress, slot.seed) == (0.3, (7, 7))
    embed(model.train(), pixels)
    assert torch.equal(slot.keep, earlier)


def test_preview_cleans_up_after_an_error() -> None:
    found = encoder()
    with pytest.raises(TowerError, match="larger than the model's 4 x 4"):
        preview(found, RandomMask(0.5), torch.zeros(1, 3, 48, 48))
    assert slot_of(found.model) is None
    assert not found.model.training
