"""Scores of a guide, against attention and similarity computed by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.masking.random import RandomMask
from patchclip.masking.trim import TrimMask
from patchclip.models.guide import Guide, regrid
from patchclip.models.masked import attach
from tests.models._tiny import TOWERS, build, encoder, pictures

CLASS_TOKEN = ("native", "timm")


def patches_of(model: nn.Module, pixels: Tensor) -> int:
    """Patches of an image."""
    py, px = Guide(model).layout.patch or (1, 1)
    return (pixels.shape[-2] // py) * (pixels.shape[-1] // px)


def by_hand(visual: nn.Module, pixels: Tensor) -> list[Tensor]:
    """Attention [heads, n, n] of each image in each layer of open_clip's own ViT, written out."""
    found = []
    x = visual._embeds(pixels)
    for block in visual.transformer.resblocks:
        normed, attention = block.ln_1(x), block.attn
        d, heads = normed.shape[-1], attention.num_heads
        query, key, _ = (normed @ attention.in_proj_weight.T + attention.in_proj_bias).split(d, dim=-1)
        layers = []
        for q, k in zip(query, key, strict=True):
            each = [
                (qh @ kh.T / (d // heads) ** 0.5).softmax(dim=-1)
                for qh, kh in zip(q.split(d // heads, dim=-1), k.split(d // heads, dim=-1), strict=True)
            ]
            layers.append(torch.stack(each))
        found.append(torch.stack(layers))
        x = block(x)
    return found


@torch.no_grad()
@pytest.mark.parametrize("layers", [None, 1, 2])
def test_class_attention_equals_attention_by_hand(layers: int | None) -> None:
    architecture = build("native")
    model, pixels = architecture.model.eval(), pictures(architecture, 3)
    scores = Guide(model, layers=layers)(pixels, 16)
    matrices = by_hand(model.visual, pixels)[-(layers or 0) :]
    expected = torch.stack([m[:, :, 0, 1:].mean(dim=1) for m in matrices]).mean(dim=0)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_timm_attention_equals_attention_by_hand() -> None:
    architecture = build("timm")
    model, pixels = architecture.model.eval(), pictures(architecture)
    trunk = model.visual.trunk
    inputs: list[Tensor] = []
    hooks = [b.attn.register_forward_pre_hook(lambda m, a: inputs.append(a[0])) for b in trunk.blocks]
    model.encode_image(pixels)
    [hook.remove() for hook in hooks]
    rows = []
    for block, x in zip(trunk.blocks, inputs, strict=True):
        a = block.attn
        query, key, _ = a.qkv(x).unflatten(-1, (3, a.num_heads, a.head_dim)).unbind(dim=2)
        logits = torch.einsum("bhc,bnhc->bhn", a.q_norm(query)[:, 0], a.k_norm(key)) * a.scale
        rows.append(logits.softmax(dim=-1).mean(dim=1)[:, trunk.num_prefix_tokens :])
    scores = Guide(model)(pixels, rows[0].shape[1])
    torch.testing.assert_close(scores, torch.stack(rows).mean(dim=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("score", ["attention", "text"])
@pytest.mark.parametrize("resolution", [1.0, 0.5])
def test_every_tower_can_guide(kind: str, score: str, resolution: float) -> None:
    architecture = build(kind)
    pixels = pictures(architecture)
    guide = Guide(architecture.model, score, resolution)
    guide.read(architecture.tokenizer(["a dog", "a cat"]))
    assert guide.by_class_token == (score == "attention" and kind in CLASS_TOKEN)
    patches = patches_of(architecture.model, pixels)
    found = guide(pixels, patches)
    assert found.shape == (2, patches)
    assert found.isfinite().all()
    assert not found.requires_grad
    assert found.std(dim=1).min() > 0


@torch.no_grad()
def test_a_rotary_tower_with_class_token_is_read() -> None:
    architecture = build("eva")
    model, pixels = architecture.model.eval(), pictures(architecture)
    model.visual.trunk.global_pool = "token"
    guide = Guide(model)
    assert guide.by_class_token
    seen: list[Tensor] = []
    original = F.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, *rest: object, **options: object) -> Tensor:
        seen.append((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)[:, 0, 1:])
        return original(q, k, v, *rest, **options)

    scores = guide(pixels, 256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", spy)
        model.visual(pixels)
    torch.testing.assert_close(scores, torch.stack(seen).mean(dim=0), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_text_scores_are_cosines_with_the_text() -> None:
    clip = encoder("native")
    pixels, tokens = pictures(clip.architecture), clip.tokenizer(["a dog", "a red square"])
    guide = Guide(clip.model, "text")
    guide.read(tokens)
    patches, text = clip.patch_features(pixels).features, clip.encode_text(tokens)
    torch.testing.assert_close(guide(pixels, 16), torch.einsum("ble,be->bl", patches, text))
    guide.read(tokens[1:])
    torch.testing.assert_close(guide(pixels, 16), torch.einsum("ble,e->bl", patches, text[1]))


@torch.no_grad()
def test_without_class_token_scores_are_cosines_with_the_image() -> None:
    clip = encoder("timm-map")
    pixels = pictures(clip.architecture)
    patches, image = clip.patch_features(pixels).features, clip.encode_image(pixels)
    found = Guide(clip.model)(pixels, patches.shape[1])
    torch.testing.assert_close(found, torch.einsum("ble,be->bl", patches, image), rtol=1e-4, atol=1e-5)


def test_a_guide_shares_weights_and_leaves_the_model_alone() -> None:
    model = build("native").model.train()
    before = {name: id(p) for name, p in model.named_parameters()}
    slot = attach(model, RandomMask())
    guide = Guide(model)
    assert {id(p) for p in guide.model.parameters()} <= set(before.values())
    assert model.training
    assert slot is model.visual.patch_dropout
    assert not guide.model.training


def test_a_teacher_follows_by_the_formula() -> None:
    model, other = build("native").model, build("native", seed=1).model
    teacher = Guide.teacher(model)
    start = [p.clone() for p in teacher.model.parameters()]
    teacher.update(other, 0.9)
    new = list(other.visual.parameters())
    for found, old, now in zip(teacher.model.parameters(), start, new, strict=True):
        torch.testing.assert_close(found, 0.9 * old + 0.1 * now)
        assert not found.requires_grad
    assert all(p.requires_grad for p in model.parameters())


def test_its_state_is_restored_exactly() -> None:
    architecture = build("native")
    pixels = pictures(architecture)
    teacher = Guide.teacher(architecture.model)
    teacher.update(build("native", seed=1).model, 0.5)
    fresh = Guide.teacher(build("native", seed=2).model)
    fresh.load_state_dict(teacher.state_dict())
    assert torch.equal(fresh(pixels, 16), teacher(pixels, 16))


def test_it_works_in_mixed_precision() -> None:
    architecture = build("native")
    pixels, guide = pictures(architecture), Guide(architecture.model)
    expected = guide(pixels, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = guide(pixels.bfloat16(), 16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=5e-3)


def test_trim_masks_at_inference_by_the_models_own_weights() -> None:
    clip = encoder("native")
    pixels, masker = pictures(clip.architecture), TrimMask()
    guide = Guide(clip.model, "text")
    guide.read(clip.tokenizer(["a dog"]))
    masker.scorer = guide
    dense = clip.encode_image(pixels)
    masked = clip.encode_image(pixels, masking=masker)
    assert masked.shape == dense.shape
    assert not torch.allclose(masked, dense)
    torch.testing.assert_close(clip.encode_image(pixels), dense)


def test_scores_on_another_grid_stay_where_they_are() -> None:
    board = torch.zeros(1, 4, 4)
    board[0, 1, 2] = 1.0
    finer = regrid(board.flatten(1), (4, 4), (8, 8)).unflatten(1, (8, 8))[0]
    assert divmod(int(finer.argmax()), 8) in {(2, 4), (2, 5), (3, 4), (3, 5)}
    torch.testing.assert_close(finer.mean(), board.mean())


def test_mistakes_are_named() -> None:
    architecture = build("native")
    pixels = pictures(architecture)
    with pytest.raises(ConfigError, match=r"guide\.read"):
        Guide(architecture.model, "text")(pixels, 16)
    guide = Guide(architecture.model, "text")
    guide.read(architecture.tokenizer(["a", "b", "c"]))
    with pytest.raises(ConfigError, match="3 texts for 2 images"):
        guide(pixels, 16)
    for options in ({"score": "colour"}, {"resolution": 0.0}, {"layers": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Guide(architecture.model, **options)  # type: ignore[arg-type]
