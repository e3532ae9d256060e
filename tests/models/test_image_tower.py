"""A tower taken apart: the same numbers as the tower itself, at any size, and as Hugging Face's."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import resize_pos_embed
from torch import Tensor, nn

from patchclip.errors import ConfigError, TowerError
from patchclip.models.image_tower import Tower, cut, image_tower, positions_of
from tests.models._tiny import NATIVE, build, encoder, pictures
from tests.models._vits import NO_CLASS, REGISTERS, noise, open_clip_tower, timm_tower

READABLE = ("native", "native-avg", "timm", "timm-avg", "timm-map")


@torch.no_grad()
def last_tokens(tower: Tower, pixels: Tensor) -> Tensor:
    tokens, _ = tower.embed(pixels)
    for block in tower.blocks:
        tokens = block(tokens)
    return tokens


@pytest.mark.parametrize("kind", READABLE)
def test_embedding_blocks_and_end_give_the_encoders_patches(kind: str) -> None:
    found = encoder(kind)
    tower, pixels = found.tower(), pictures(found.architecture)
    with torch.no_grad():
        features = tower.finish(last_tokens(tower, pixels)[:, tower.prefix :])
    assert features.shape == (2, math.prod(found.grid), 32)
    assert tower.embed(pixels)[1] == found.grid
    unit = F.normalize(features, dim=-1)
    torch.testing.assert_close(unit, found.patch_features(pixels).features, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["native", "timm"])
@torch.no_grad()
def test_the_class_token_ends_as_the_image_embedding(kind: str) -> None:
    found = encoder(kind)
    tower, pixels = found.tower(), pictures(found.architecture)
    image = F.normalize(tower.finish(last_tokens(tower, pixels)[:, :1])[:, 0], dim=-1)
    torch.testing.assert_close(image, found.encode_image(pixels), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options", [{}, NO_CLASS, REGISTERS, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}]
)
@torch.no_grad()
def test_tokens_are_timms_own(options: dict[str, Any]) -> None:
    visual = timm_tower(**options)
    tower, pixels = image_tower(visual), noise(2, 3, 32, 32)
    assert tower.prefix == visual.trunk.num_prefix_tokens
    tokens = last_tokens(tower, pixels)
    torch.testing.assert_close(visual.trunk.norm(tokens), visual.trunk.forward_features(pixels))


@pytest.mark.parametrize("size", [(24, 24), (48, 48), (24, 40)])
@pytest.mark.parametrize("options", [{}, NO_CLASS, REGISTERS])
@torch.no_grad()
def test_other_sizes_are_timms_own_dynamic_sizes(options: dict[str, Any], size: tuple[int, int]) -> None:
    visual, dynamic = timm_tower(**options), timm_tower(dynamic_img_size=True, **options)
    tower, pixels = image_tower(visual), noise(2, 3, *size)
    assert tower.embed(pixels)[1] == (size[0] // 8, size[1] // 8)
    expected = dynamic.trunk.forward_features(pixels)
    torch.testing.assert_close(visual.trunk.norm(last_tokens(tower, pixels)), expected)


@pytest.mark.parametrize("side", [16, 48])
@torch.no_grad()
def test_another_size_is_open_clips_model_with_resized_positions(side: int) -> None:
    small, large = open_clip_tower(), open_clip_tower(side)
    state = {f"visual.{key}": value for key, value in small.state_dict().items()}
    holder = nn.Module()
    holder.visual = large
    resize_pos_embed(state, holder)
    holder.load_state_dict(state)
    pixels = noise(2, 3, side, side)
    tokens = last_tokens(image_tower(small), pixels)
    torch.testing.assert_close(tokens, large.transformer(large._embeds(pixels)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_sides_are_not_mixed_up() -> None:
    """Rows first: a wide image turned by 90 degrees has a grid turned by 90 degrees."""
    visual = open_clip_tower()
    visual.positional_embedding.zero_()
    pixels = noise(1, 3, 16, 40)
    tokens, grid = image_tower(visual).embed(pixels)
    visual.conv1.weight.copy_(visual.conv1.weight.transpose(2, 3).clone())
    turned, turned_grid = image_tower(visual).embed(pixels.transpose(2, 3))
    assert (grid, turned_grid) == ((2, 5), (5, 2))
    expected = turned[:, 1:].unflatten(1, (5, 2)).transpose(1, 2).flatten(1, 2)
    torch.testing.assert_close(tokens[:, 1:], expected)


def test_positions_of_the_models_own_grid_are_untouched() -> None:
    table = noise(1, 17, 4)
    assert positions_of(table, (4, 4), (4, 4), 1) is table
    resized = positions_of(table, (4, 4), (2, 8), 1)  # as many, but not the same
    assert torch.equal(resized[:, 0], table[:, 0])
    assert not torch.equal(resized, table)
    constant = positions_of(torch.ones(1, 17, 4), (4, 4), (7, 3), 1)
    torch.testing.assert_close(constant, torch.ones(1, 22, 4))


@torch.no_grad()
def test_a_tower_that_puts_tokens_first_is_read_the_same() -> None:
    plain, turned = open_clip_tower(), open_clip_tower()
    turned.transformer.batch_first = False
    for block in turned.transformer.resblocks:
        block.attn.batch_first = False
    pixels = noise(2, 3, 32, 32)
    torch.testing.assert_close(turned(pixels), plain(pixels))
    torch.testing.assert_close(
        last_tokens(image_tower(turned), pixels), last_tokens(image_tower(plain), pixels)
    )


@pytest.mark.parametrize("step", [4, 2, 1])
@torch.no_grad()
def test_patches_between_the_patches_are_those_of_the_shifted_image(step: int) -> None:
    """The stride trick: every (8 / step)-th patch is the grid of the image shifted by a few pixels."""
    convolution, pixels = open_clip_tower().conv1, noise(2, 3, 32, 40)
    fine = cut(convolution, pixels, step)
    assert fine.shape[2:] == ((32 - 8) // step + 1, (40 - 8) // step + 1)
    every = 8 // step
    for row in range(every):
        for column in range(every):
            shifted = pixels[:, :, row * step :, column * step :]
            whole = shifted[:, :, : shifted.shape[2] // 8 * 8, : shifted.shape[3] // 8 * 8]
            expected = cut(convolution, whole, None)
            torch.testing.assert_close(fine[:, :, row::every, column::every], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("visual", [open_clip_tower(), timm_tower(), timm_tower(**NO_CLASS)])
@torch.no_grad()
def test_a_step_makes_a_finer_grid(visual: Any) -> None:
    tower, pixels = image_tower(visual, step=4), noise(1, 3, 32, 24)
    tokens, grid = tower.embed(pixels)
    assert grid == (7, 5)
    assert tokens.shape == (1, tower.prefix + 35, 24)
    own = image_tower(visual, step=8).embed(pixels)[0]
    torch.testing.assert_close(own, image_tower(visual).embed(pixels)[0])


@pytest.mark.parametrize(
    "visual",
    [
        open_clip_tower(),
        open_clip_tower(pool_type="avg", final_ln_after_pool=True),
        timm_tower(),
        timm_tower(class_token=False, global_pool="avg"),  # its final norm stands behind the pooling
    ],
)
@torch.no_grad()
def test_the_end_is_the_final_norm_and_the_projection(visual: Any) -> None:
    tower, tokens = image_tower(visual), noise(2, 7, 24)
    normed = tower.norm(tokens)
    assert not torch.equal(normed, tokens)
    projected = visual.head(normed) if hasattr(visual, "head") else normed @ visual.proj
    torch.testing.assert_close(tower.finish(tokens), projected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("visual", [open_clip_tower(), timm_tower(**REGISTERS)])
@torch.no_grad()
def test_under_autocast_it_is_the_tower_under_autocast(visual: Any, dtype: torch.dtype) -> None:
    tower, pixels = image_tower(visual), noise(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=dtype):
        found = tower.finish(last_tokens(tower, pixels)[:, :1])[:, 0]
        assert found.isfinite().all()
        torch.testing.assert_close(found, visual(pixels), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("kind", ["native-attention", "eva", "eva-registers", "convnext", "resnet"])
def test_towers_that_cannot_be_taken_apart_are_named(kind: str) -> None:
    with pytest.raises(TowerError, match=r"^\w+ cannot be taken apart: .* needs a plain ViT"):
        image_tower(build(kind).model.visual)


@pytest.mark.parametrize("change", ["gate", "dist_token", "rope", "block", "patches"])
def test_what_looks_like_a_plain_vit_and_is_none_is_refused(change: str) -> None:
    visual = timm_tower(patch=(8, 16)) if change == "patches" else timm_tower()
    trunk = visual.trunk
    if change == "gate":
        trunk.blocks[1].attn.gate = nn.Linear(24, 24)
    elif change == "block":
        trunk.blocks[1] = nn.Identity()
    elif change != "patches":
        setattr(trunk, change, nn.Parameter(torch.zeros(1)))
    with pytest.raises(TowerError, match="cannot be taken apart"):
        image_tower(visual)


def test_attention_by_cosines_is_refused() -> None:
    visual = open_clip_tower(scaled_cosine_attn=True)
    with pytest.raises(TowerError, match="cannot be taken apart"):
        image_tower(visual)


@pytest.mark.parametrize("step", [0, -4, 9])
def test_steps_beyond_a_patch_are_refused(step: int) -> None:
    with pytest.raises(ConfigError, match=rf"step={step} must be in \[1, 8\]"):
        image_tower(open_clip_tower(), step=step)


@pytest.mark.parametrize(("size", "step"), [((36, 32), None), ((32, 4), None), ((30, 32), 4)])
def test_images_of_broken_patches_are_refused(size: tuple[int, int], step: int | None) -> None:
    tower = image_tower(open_clip_tower(), step=step)
    with pytest.raises(TowerError, match=f"images of {size[0]} x {size[1]} px do not hold whole patches"):
        tower.embed(torch.zeros(1, 3, *size))


def test_a_tower_says_how_its_pixels_are_normalised() -> None:
    for kind in ("native", "timm"):
        found = encoder(kind)
        stated = found.architecture.preprocess_cfg
        assert found.tower().normalisation == (tuple(stated["mean"]), tuple(stated["std"]))
    with pytest.raises(TowerError, match=r"set visual\.preprocess_cfg"):
        _ = image_tower(open_clip_tower()).normalisation


@torch.no_grad()
def test_reading_leaves_the_image_embedding_alone() -> None:
    found = encoder()
    pixels = pictures(found.architecture)
    before = found.encode_image(pixels)
    last_tokens(found.tower(step=4), noise(2, 3, 48, 40))
    assert torch.equal(found.encode_image(pixels), before)
    assert found.tower().patch == NATIVE["patch_size"]


@torch.no_grad()
def test_patches_are_hugging_faces_with_the_same_weights() -> None:
    """Before the final norm, after it and after the projection; the class token in all three places."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    visual = open_clip_tower()
    config = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=32,
        patch_size=8, projection_dim=16, hidden_act="gelu",
    )  # fmt: skip
    theirs = CLIPVisionModelWithProjection(config).eval()
    missing, unexpected = theirs.load_state_dict(converted(visual), strict=False)
    assert not unexpected
    assert [name for name in missing if "position_ids" not in name] == []
    pixels, tower = noise(2, 3, 32, 32), image_tower(visual)
    out = theirs(pixel_values=pixels)
    ours, last = last_tokens(tower, pixels), out.last_hidden_state
    torch.testing.assert_close(ours, last, atol=1e-4, rtol=1e-4)
    normed = theirs.vision_model.post_layernorm(last)
    assert (last - normed).abs().max() > 0.1  # Hugging Face's last state is not normed
    torch.testing.assert_close(tower.norm(ours[:, 1:]), normed[:, 1:], atol=1e-4, rtol=1e-4)
    projected = theirs.visual_projection(normed)
    torch.testing.assert_close(tower.finish(ours[:, 1:]), projected[:, 1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(visual(pixels), out.image_embeds, atol=1e-4, rtol=1e-4)


def converted(visual: Any) -> dict[str, Tensor]:
    """Weights of open_clip's ViT by Hugging Face's names."""
    state, prefix = visual.state_dict(), "vision_model."
    found = {
        f"{prefix}embeddings.class_embedding": state["class_embedding"],
        f"{prefix}embeddings.patch_embedding.weight": state["conv1.weight"],
        f"{prefix}embeddings.position_embedding.weight": state["positional_embedding"],
        "visual_projection.weight": state["proj"].T,
    }
    for part in ("weight", "bias"):
        found[f"{prefix}pre_layrnorm.{part}"] = state[f"ln_pre.{part}"]
        found[f"{prefix}post_layernorm.{part}"] = state[f"ln_post.{part}"]
        for i in range(len(visual.transformer.resblocks)):
            here, there = f"transformer.resblocks.{i}.", f"{prefix}encoder.layers.{i}."
            rows = state[f"{here}attn.in_proj_{part}"].chunk(3)
            for name, value in zip(("q_proj", "k_proj", "v_proj"), rows, strict=True):
                found[f"{there}self_attn.{name}.{part}"] = value
            pairs = {
                **{"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"},
                **{"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"},
            }
            for name, other in pairs.items():
                found[f"{there}{other}.{part}"] = state[f"{here}{name}.{part}"]
    return found
