"""The slot: the plain tower where nothing is dropped, else the blocks on the gathered tokens."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from patchclip.masking.none import NoMask
from patchclip.masking.pgs import PGSMask
from patchclip.masking.random import RandomMask
from patchclip.models.masked import attach
from tests.models._tiny import NATIVE, TINY, TOWERS, build, create, embed, native, pictures

KINDS = list(TOWERS)


@pytest.mark.parametrize("kind", KINDS)
def test_eval_mode_is_the_plain_tower(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.eval(), pictures(architecture)
    plain = embed(model, pixels)
    slot = attach(model, RandomMask(0.5))
    torch.testing.assert_close(embed(model, pixels), plain, atol=1e-6, rtol=0)
    assert slot.keep is None
    assert slot.mask_ratio == 0


@pytest.mark.parametrize(
    "masker", [NoMask(), RandomMask(0.0), PGSMask(0.0)], ids=["none", "random-0", "pgs-0"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_keeping_everything_is_the_plain_tower(kind: str, masker: NoMask | RandomMask | PGSMask) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    plain = embed(model, pixels)
    slot = attach(model, masker)
    torch.testing.assert_close(embed(model, pixels), plain, atol=1e-6, rtol=0)
    assert slot.keep is None
    assert not slot.masks(16)


def timm(visual: nn.Module, pixels: Tensor, keep: Tensor) -> Tensor:
    trunk = visual.trunk
    tokens = trunk.patch_embed(pixels).flatten(1, 2) + trunk.pos_embed[:, 1:]
    first = (trunk.cls_token + trunk.pos_embed[:, :1]).expand(len(tokens), -1, -1)
    kept = torch.stack([tokens[i, keep[i]] for i in range(len(tokens))])
    out = trunk.norm(trunk.blocks(trunk.norm_pre(torch.cat([first, kept], dim=1))))
    return visual.head(trunk.fc_norm(out[:, 0]))


def eva(visual: nn.Module, pixels: Tensor, keep: Tensor) -> Tensor:
    """One image after the other, each with its own rotary positions."""
    trunk, results = visual.trunk, []
    tokens = trunk.patch_embed(pixels) + trunk.pos_embed[:, 1:]
    for image, kept in zip(tokens, keep, strict=True):
        out = torch.cat([(trunk.cls_token + trunk.pos_embed[:, :1])[0], image[kept]])[None]
        for block in trunk.blocks:
            out = block(out, rope=trunk.rope.get_embed()[kept])
        results.append(visual.head(trunk.forward_head(trunk.norm(out))))
    return torch.cat(results)


@pytest.mark.parametrize("masker", [RandomMask(0.5), PGSMask(0.5)], ids=["random", "pgs"])
@pytest.mark.parametrize("kind, by_hand", [("native", native), ("timm", timm), ("eva", eva)])
def test_masked_forward_is_the_blocks_on_the_gathered_tokens(
    kind: str, by_hand: Callable[[nn.Module, Tensor, Tensor], Tensor], masker: RandomMask | PGSMask
) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, masker)
    found = embed(model, pixels)
    assert slot.keep is not None
    keep = slot.keep
    assert (keep[0] != keep[1]).any()
    assert slot.mask_ratio == 0.5
    slot.enabled = False
    expected = by_hand(model.visual, pixels, keep)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_has_no_influence(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, RandomMask(0.5))
    before = embed(model, pixels)
    keep = slot.keep
    assert keep is not None
    assert slot.layout.patch is not None
    side = architecture.image_size // slot.layout.patch[0]
    for image in range(2):
        for patch in set(range(side * side)) - set(keep[image].tolist()):
            y, x = patch // side * slot.layout.patch[0], patch % side * slot.layout.patch[0]
            pixels[image, :, y : y + slot.layout.patch[0], x : x + slot.layout.patch[0]] = 50
    slot.replay = keep
    torch.testing.assert_close(embed(model, pixels), before, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(embed(model.eval(), pixels), before, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_the_patch_embedding(kind: str) -> None:
    architecture = build(kind)
    model = architecture.model.train()
    attach(model, PGSMask(0.5))
    embed(model, pictures(architecture)).square().sum().backward()
    weights = (
        model.visual.conv1.weight if kind.startswith("native") else model.visual.trunk.patch_embed.proj.weight
    )
    assert weights.grad is not None
    assert weights.grad.isfinite().all()
    assert weights.grad.abs().max() > 0


def test_positions_that_are_dropped_get_no_gradient() -> None:
    architecture = build()
    model = architecture.model.train()
    slot = attach(model, RandomMask(0.75))
    embed(model, pictures(architecture, 1))[0, 0].backward()
    assert slot.keep is not None
    moved = model.visual.positional_embedding.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert moved == [0, *(1 + slot.keep[0]).tolist()]


@pytest.mark.parametrize("kind", ["native", "timm", "eva"])
def test_gradient_checkpointing_gives_the_same_gradients(kind: str) -> None:
    results = []
    for enabled in (False, True):
        architecture = build(kind)
        model = architecture.model.train()
        model.set_grad_checkpointing(enabled)
        slot = attach(model, PGSMask(0.5))
        embed(model, pictures(architecture)).square().sum().backward()
        results.append((slot.keep, [p.grad for p in model.visual.parameters()]))
    (keep, plain), (again, checkpointed) = results
    assert torch.equal(keep, again)
    assert len(plain) == len(checkpointed)
    for one, two in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("kind", ["native", "eva"])
def test_mixed_precision_works(kind: str) -> None:
    architecture = build(kind)
    model = architecture.model.train()
    slot = attach(model, PGSMask(0.5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = embed(model, pictures(architecture))
    assert found.isfinite().all()
    assert slot.mask_ratio == 0.5


@pytest.mark.parametrize("masker", [RandomMask(0.5), PGSMask(0.5)], ids=["random", "pgs"])
def test_an_image_that_is_not_a_whole_number_of_patches(masker: RandomMask | PGSMask) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = create("ViT-Ti-16", overrides={**TINY, "vision_cfg": {**NATIVE, "image_size": 37}})
    model = architecture.model.train()
    slot = attach(model, masker)
    pixels = pictures(architecture)
    found = embed(model, pixels)
    assert slot.keep is not None
    assert slot.keep.shape == (2, 8)
    assert slot.whole(pixels).shape == (2, 3, 32, 32)
    pixels[..., 32:] = pixels[..., 32:, :] = 7  # what the convolution never reads
    torch.testing.assert_close(embed(model, pixels), found)


def test_intermediate_features_are_masked_too() -> None:
    architecture = build()
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, RandomMask(0.5))
    out = model.visual.forward_intermediates(pixels, indices=[0], output_fmt="NLC")
    assert slot.keep is not None
    assert out["image_intermediates"][0].shape == (2, 8, 64)
