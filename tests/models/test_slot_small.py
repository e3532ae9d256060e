"""Images smaller than the model's: resized positions, resizing instead of masking, masks at inference."""

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import resize_pos_embed
from torch import Tensor, nn

from patchclip import registry
from patchclip.errors import TowerError
from patchclip.masking.none import NoMask
from patchclip.masking.random import RandomMask
from patchclip.masking.resize import ResizeMask
from patchclip.models.architectures import create
from patchclip.models.masked import attach, find_seat, masked, slot_of
from patchclip.models.slot import nearest_places, shrink
from tests.models._tiny import NATIVE, TINY, TOWERS, build, embed, encoder, native, pictures

KINDS = list(TOWERS)


def half(pixels: Tensor, patch: int) -> Tensor:
    """The images at about half the size, whole patches."""
    side = pixels.shape[-1] // 2 // patch * patch
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)


def patch_of(model: object) -> int:
    slot = slot_of(model)  # type: ignore[arg-type]
    assert slot is not None
    assert slot.layout.patch is not None
    return slot.layout.patch[0]


def test_a_small_image_gets_open_clips_resized_positions() -> None:
    architecture = build()
    model, pixels = architecture.model.eval(), half(pictures(architecture), 8)
    small = create("ViT-Ti-16", overrides={**TINY, "vision_cfg": {**NATIVE, "image_size": 16}}).model.eval()
    state = dict(model.state_dict())
    resize_pos_embed(state, small, interpolation="bicubic", antialias=True)
    small.load_state_dict(state)
    attach(model, NoMask())
    torch.testing.assert_close(embed(model, pixels), embed(small, pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_tower_takes_small_images_and_the_full_ones_after_them(kind: str, train: bool) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.eval(), pictures(architecture)
    plain = embed(model, pixels)
    slot = attach(model, NoMask())
    small = half(pixels, patch_of(model))
    out = embed(model.train(train), small)
    assert out.shape == plain.shape
    assert torch.isfinite(out).all()
    assert (out - plain).abs().max() > 1e-4
    torch.testing.assert_close(embed(model.eval(), pixels), plain, atol=1e-6, rtol=0)
    assert slot._held is None
    assert slot._pixels is None


@pytest.mark.parametrize("kind", KINDS)
def test_resizing_is_the_small_image(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, ResizeMask(0.75))
    resized = embed(model, pixels)
    assert slot.layout.grid is not None
    assert slot.layout.patch is not None
    side = round(slot.layout.grid[0] / 2)
    assert slot.keep is not None
    assert slot.keep.shape == (2, side * side)
    assert slot.mask_ratio == pytest.approx(1 - (side / slot.layout.grid[0]) ** 2)
    whole = slot.whole(pixels)
    slot.masker = NoMask()
    small = shrink(whole, (side * slot.layout.patch[0],) * 2)
    torch.testing.assert_close(resized, embed(model, small), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_patch_embedding_and_position(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    attach(model, ResizeMask(0.5))
    embed(model, pixels).pow(2).sum().backward()
    for name, parameter in model.visual.named_parameters():
        if "pos" in name or "patch_embed.proj" in name or "conv1" in name:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_small_images_are_masked_too(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, RandomMask(0.5))
    small = half(pixels, patch_of(model))
    out = embed(model, small)
    assert slot.keep is not None
    assert slot.layout.patch is not None
    patches = (small.shape[-1] // slot.layout.patch[0]) ** 2
    assert slot.keep.shape == (2, max(1, patches // 2))
    assert torch.isfinite(out).all()


def test_a_masked_small_image_is_the_blocks_on_its_gathered_tokens() -> None:
    architecture = build()
    model, pixels = architecture.model.train(), half(pictures(architecture), 8)
    slot = attach(model, RandomMask(0.5))
    found = embed(model, pixels)
    assert slot.keep is not None
    visual, keep = model.visual, slot.keep
    positions = visual.positional_embedding[1:].T.unflatten(1, (4, 4))[None]
    positions = F.interpolate(positions, (2, 2), mode="bicubic", antialias=True)[0].flatten(1).T
    find_seat(model).place(nn.Identity())
    visual.positional_embedding.data = torch.cat([visual.positional_embedding[:1], positions]).data
    expected = native(visual, pixels, keep)
    assert keep.shape == (2, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["native", "timm-map", "eva"])
def test_larger_images_are_refused(kind: str) -> None:
    architecture = build(kind)
    model = architecture.model.eval()
    slot = attach(model, NoMask())
    if slot.layout.dynamic:
        pytest.skip("this tower takes any size")
    side = 2 * architecture.image_size
    with pytest.raises(TowerError, match="larger than the model's"):
        embed(model, torch.zeros(1, 3, side, side))


def test_nearest_places_by_hand() -> None:
    places = nearest_places((4, 4), (2, 2), torch.device("cpu"))
    assert places.tolist() == [[5, 7, 13, 15]]
    whole = nearest_places((3, 5), (3, 5), torch.device("cpu"))
    assert whole.tolist() == [list(range(15))]
    for small in range(1, 15):
        found = nearest_places((14, 14), (small, small), torch.device("cpu"))[0]
        assert len(set(found.tolist())) == small * small


def test_resizing_agrees_with_its_slot_about_places() -> None:
    for ratio in (0.0, 0.3, 0.5, 0.75, 0.97):
        masker = ResizeMask(ratio)
        side = masker.resized((14, 14), 0.0)
        found = masker.select(torch.zeros(2, 3, 56, 56), torch.zeros(2, 196, 4), 0.0, torch.Generator())
        expected = nearest_places((14, 14), side, torch.device("cpu"))
        assert torch.equal(found, expected.expand(2, -1))
        assert masker.kept(196, 0.0) == found.shape[1] == side[0] * side[1]


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_with_a_mask_equals_training_with_it(kind: str) -> None:
    found = encoder(kind)
    pixels = pictures(found.architecture)
    plain = found.encode_image(pixels)
    part = found.encode_image(pixels, masking=RandomMask(0.5), seed=3)
    again = found.encode_image(pixels, masking=RandomMask(0.5), seed=3)
    other = found.encode_image(pixels, masking=RandomMask(0.5), seed=4)
    assert torch.equal(part, again)
    assert not torch.allclose(part, other)
    assert slot_of(found.model) is None
    torch.testing.assert_close(found.encode_image(pixels), plain, atol=1e-6, rtol=0)
    slot = attach(found.model, RandomMask(0.5))
    slot.seed, slot.progress, slot.always, slot.shared = (3,), 1.0, True, True
    expected = F.normalize(embed(found.model, pixels), dim=-1)
    torch.testing.assert_close(part, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["random", "grid", "pgs", "cluster"])
def test_an_embedding_does_not_depend_on_its_place_in_the_batch(name: str) -> None:
    found = encoder()
    one, two = pictures(found.architecture, 2)
    masker = registry.build("masking", name, mask_ratio=0.5)
    together = found.encode_image(torch.stack([two, one, one]), masking=masker, seed=1)
    alone = found.encode_image(one[None], masking=masker, seed=1)
    torch.testing.assert_close(together[1:], alone.expand(2, -1), atol=1e-5, rtol=1e-5)


def test_masked_leaves_an_earlier_slot_as_it_was() -> None:
    architecture = build()
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, RandomMask(0.5))
    first = embed(model, pixels)
    with masked(model, RandomMask(0.25)) as inner:
        embed(model, pixels)
    assert inner.mask_ratio == 0.25
    assert slot_of(model) is slot
    torch.testing.assert_close(embed(model, pixels), first)


class Biased(RandomMask):
    """Keeps half at random; patches 0 .. 7 are marked."""

    last_bias: Tensor | None = None

    def select(self, pixels: Tensor, tokens: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        keep = super().select(pixels, tokens, progress, generator)
        marked = (keep < 8).float()
        object.__setattr__(self, "last_bias", marked[:, :, None] * marked[:, None, :])
        return keep


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_attention_bias_reaches_every_block(checkpointing: bool) -> None:
    architecture = build()
    model, pixels = architecture.model.train(), pictures(architecture, 3)
    model.set_grad_checkpointing(checkpointing)
    slot = attach(model, Biased(0.5))
    masks: list[Tensor] = []
    for block in model.visual.transformer.resblocks:
        block.register_forward_pre_hook(
            lambda module, args, kwargs: masks.append((*args, *kwargs.values())[-1]), with_kwargs=True
        )
    out = embed(model, pixels)
    out.sum().backward()
    assert slot.keep is not None
    marked = torch.cat([torch.ones(3, 1), (slot.keep < 8).float()], dim=1)
    expected = (marked[:, :, None] * marked[:, None, :]).repeat(2, 1, 1)
    assert len(masks) >= 2
    assert all(torch.equal(mask, expected) for mask in masks)
    slot.masker = RandomMask(0.5)
    assert not torch.allclose(embed(model, pixels), out, atol=1e-4), "the bias changes nothing"
    model.eval()
    find_seat(model).place(nn.Identity())
    assert not model.visual.transformer._forward_pre_hooks


def test_an_attention_bias_needs_open_clips_own_tower() -> None:
    with pytest.raises(TowerError, match=r"biases attention.*not VisionTransformer"):
        attach(build("timm").model, Biased(0.5))
