"""The encoder: unit embeddings, patches in the space of the texts, the same numbers as open_clip."""

import math
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from patchclip.errors import ConfigError, TowerError
from patchclip.masking.random import RandomMask
from patchclip.models.architectures import create
from patchclip.models.masked import attach
from patchclip.models.towers import ClipEncoder, list_models, pick_device
from tests.models._tiny import CANNOT_DROP, NATIVE, TINY, TOWERS, build, encoder, pictures


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("kind", [*TOWERS, *CANNOT_DROP])
def test_embeddings_are_open_clip_s_with_length_one(kind: str) -> None:
    found = encoder(kind)
    pixels = pictures(found.architecture, 3)
    image = found.encode_image(pixels)
    assert image.shape == (3, 32)
    assert image.dtype == torch.float32
    assert not image.requires_grad
    torch.testing.assert_close(image, unit(found.model.encode_image(pixels)), atol=1e-6, rtol=0)
    tokens = found.tokenizer(["a dog", "a red house"])
    text = found.encode_text(tokens)
    assert text.shape == (2, 32)
    torch.testing.assert_close(text, found.model.encode_text(tokens, normalize=True), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat([image, text]).norm(dim=1), torch.ones(5))


def blocks(visual: nn.Module, pixels: Tensor) -> Tensor:
    """Last tokens [b, 1 + l, d] of open_clip's ViT, by hand."""
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    first = visual.class_embedding.expand(len(patches), 1, -1)
    x = visual.ln_pre(torch.cat([first, patches], dim=1) + visual.positional_embedding)
    for block in visual.transformer.resblocks:
        x = block(x)
    return x


def test_patches_pass_norm_and_projection_as_the_class_token_does() -> None:
    found = encoder()
    visual, pixels = found.model.visual, pictures(found.architecture)
    with torch.no_grad():
        projected = unit(visual.ln_post(blocks(visual, pixels)) @ visual.proj)
    patches = found.patch_features(pixels)
    assert patches.grid == found.grid == (4, 4)
    torch.testing.assert_close(patches.features, projected[:, 1:], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.encode_image(pixels), projected[:, 0], atol=1e-6, rtol=0)


def test_with_average_pooling_the_image_is_made_of_the_patches() -> None:
    found = encoder("native-avg")  # mean, then norm, then projection
    visual, pixels = found.model.visual, pictures(found.architecture)
    with torch.no_grad():
        last = blocks(visual, pixels)[:, 1:]
        expected = unit(visual.ln_post(last) @ visual.proj)
        image = unit(visual.ln_post(last.mean(dim=1)) @ visual.proj)
    torch.testing.assert_close(found.patch_features(pixels).features, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.encode_image(pixels), image, atol=1e-6, rtol=0)


def test_with_attention_pooling_each_patch_is_pooled_alone() -> None:
    found = encoder("native-attention")
    visual, pixels = found.model.visual, pictures(found.architecture, 1)
    with torch.no_grad():
        tokens = blocks(visual, pixels)[0, 1:]
        expected = torch.stack(
            [visual.ln_post(visual.attn_pool(t[None, None]))[0, 0] @ visual.proj for t in tokens]
        )
    torch.testing.assert_close(found.patch_features(pixels).features[0], unit(expected), atol=1e-6, rtol=0)


def timm_tokens(trunk: nn.Module, pixels: Tensor) -> Tensor:
    """Last patch tokens of a timm tower after its norm."""
    tokens: Tensor = trunk.forward_features(pixels)[:, trunk.num_prefix_tokens :]
    return tokens


@pytest.mark.parametrize("kind", ["timm", "timm-avg", "eva"])
def test_timm_patches_pass_the_norms_and_the_head(kind: str) -> None:
    found = encoder(kind)
    visual, pixels = found.model.visual, pictures(found.architecture)
    with torch.no_grad():
        expected = visual.head(visual.trunk.fc_norm(timm_tokens(visual.trunk, pixels)))
    patches = found.patch_features(pixels)
    assert patches.features.shape == (2, patches.grid[0] * patches.grid[1], 32)
    torch.testing.assert_close(patches.features, unit(expected), atol=1e-6, rtol=0)


def test_timm_attention_pooling_of_one_token() -> None:
    found = encoder("timm-map")
    visual, pixels = found.model.visual, pictures(found.architecture, 1)
    with torch.no_grad():
        tokens = timm_tokens(visual.trunk, pixels)[0]
        pooled = visual.trunk.fc_norm(visual.trunk.attn_pool(tokens[:, None]))
        expected = unit(visual.head(pooled))
    torch.testing.assert_close(found.patch_features(pixels).features[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["native", "native-avg", "timm", "timm-avg"])
def test_patches_lie_row_by_row(kind: str) -> None:
    """Without attention, what changes in patch (r, c) of the picture changes feature r * gw + c only."""
    found = encoder(kind)
    for name, parameter in found.model.visual.named_parameters():
        if "out_proj" in name or "attn.proj" in name:
            parameter.data.zero_()
    pixels = pictures(found.architecture, 1)
    gh, gw = found.grid
    size = found.image_size // gh
    before = found.patch_features(pixels).features[0]
    for r, c in ((0, 1), (1, 0), (gh - 1, gw - 2), (2, 3)):
        other = pixels.clone()
        other[:, :, r * size : (r + 1) * size, c * size : (c + 1) * size] += 3
        moved = (found.patch_features(other).features[0] - before).abs().sum(dim=1) > 1e-4
        assert moved.nonzero().flatten().tolist() == [r * gw + c]


def test_patches_have_length_one() -> None:
    found = encoder()
    features = found.patch_features(pictures(found.architecture)).features
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2, 16))


@pytest.mark.parametrize("kind", ["native", "timm", "eva"])
def test_patches_are_refused_while_a_mask_is_active(kind: str) -> None:
    found = encoder(kind)
    pixels = pictures(found.architecture)
    expected = found.patch_features(pixels).features
    attach(found.model, RandomMask(0.5))
    found.model.train()
    with pytest.raises(TowerError, match=r"mask is active.*model.eval\(\)"):
        found.patch_features(pixels)
    found.model.eval()
    torch.testing.assert_close(found.patch_features(pixels).features, expected)
    attach(found.model.train(), RandomMask(0.0))
    torch.testing.assert_close(found.patch_features(pixels).features, expected)


def test_patches_are_refused_while_open_clip_drops_some() -> None:
    found = ClipEncoder(
        create("ViT-Ti-16", overrides={**TINY, "vision_cfg": {**NATIVE, "patch_dropout": 0.5}})
    )
    found.model.train()
    with pytest.raises(TowerError, match=r"8 patches for a grid of 4 x 4.*model.eval\(\)"):
        found.patch_features(pictures(found.architecture))


def test_the_scale_is_that_of_the_model() -> None:
    found = encoder()
    torch.nn.init.constant_(found.model.logit_scale, 2.5)
    assert found.scale == pytest.approx(math.exp(2.5))
    del found.model.logit_scale
    assert found.scale == 1.0


@pytest.mark.parametrize("kind", list(CANNOT_DROP))
def test_towers_without_patches_say_so(kind: str) -> None:
    found = encoder(kind)
    with pytest.raises(TowerError, match="no patch grid; use a ViT"):
        found.patch_features(pictures(found.architecture))
    with pytest.raises(TowerError, match="no patch grid"):
        _ = found.grid


@pytest.mark.parametrize("size", [(50, 80), (32, 32), (7, 100)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_preprocessing_is_open_clip_s(size: tuple[int, int], mode: str) -> None:
    found = encoder()
    values = torch.randint(
        0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    image = Image.fromarray(values.numpy()).convert(mode)
    _, _, reference = open_clip.create_model_and_transforms("ViT-Ti-16", force_image_size=32, **small())
    assert found.preprocess(image).shape == (3, 32, 32)
    assert torch.equal(found.preprocess(image), reference(image))


def small() -> dict[str, Any]:
    """TINY as the keyword arguments of open_clip's factory."""
    return {"embed_dim": 32, "vision_cfg": TINY["vision_cfg"], "text_cfg": TINY["text_cfg"]}


def test_the_tokenizer_is_open_clip_s() -> None:
    texts = ["a photo of a dog", "", "Größe! " * 40]
    reference = open_clip.get_tokenizer("ViT-Ti-16", context_length=16)(texts)
    assert torch.equal(encoder().tokenizer(texts), reference)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_float32_embeddings_near_the_full_ones(precision: str) -> None:
    full = encoder()
    half = ClipEncoder(build(), precision)
    half.model.eval()
    pixels = pictures(full.architecture)
    assert half.encode_image(pixels).dtype == torch.float32
    assert (half.encode_image(pixels) * full.encode_image(pixels)).sum(dim=1).min() > 0.995
    tokens = full.tokenizer(["a dog"])
    assert (half.encode_text(tokens) * full.encode_text(tokens)).sum(dim=1).min() > 0.995
    assert half.patch_features(pixels).features.dtype == torch.float32
    assert not torch.equal(half.encode_image(pixels), full.encode_image(pixels))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision='fp8' must be one of fp32, bf16, fp16"):
        ClipEncoder(build(), "fp8")


def test_devices_are_named() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match="device='gpu' must be auto, cpu"):
        pick_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(ConfigError, match="torch finds no CUDA GPU here: use auto or cpu"):
        pick_device("cuda:0")


def test_models_are_listed_with_a_summary() -> None:
    found = {name: (text, source) for name, text, source in list_models()}
    assert found["ViT-Ti-16"] == (
        "image 12 x 192, patch 16, 112 px; text 6 x 192, 32 tokens; 192-d",
        "patchclip",
    )
    assert found["ViT-B-32"][1] == "open_clip"
