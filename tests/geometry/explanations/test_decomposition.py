"""The decomposition: its parts are the embedding, and each part is what it is said to be."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip import registry
from patchclip.errors import ConfigError, DataError, TowerError
from patchclip.geometry.explanations.decomposition import Decomposition
from patchclip.models.image_tower import Tower, image_tower
from tests.dense.methods._towers import OnesTower
from tests.models._tiny import encoder, pictures
from tests.models._vits import NO_CLASS, REGISTERS, noise, open_clip_tower, timm_tower

TOWERS: dict[str, Any] = {
    "native": open_clip_tower,
    "layer-scale": lambda: open_clip_tower(ls_init_value=0.1),
    "head-scale": lambda: open_clip_tower(scale_heads=True),
    "qk-norm": lambda: open_clip_tower(qk_norm=True),
    "mean": lambda: open_clip_tower(pool_type="avg", final_ln_after_pool=True),
    "timm": timm_tower,
    "registers": lambda: timm_tower(**REGISTERS),
    "timm-mean": lambda: timm_tower(class_token=False, global_pool="avg"),
    "map": lambda: timm_tower(**NO_CLASS),
}


def apart(visual: Any) -> Tower:
    visual.preprocess_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    return image_tower(visual)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("kind", TOWERS)
@torch.no_grad()
def test_the_parts_sum_to_the_image_embedding(kind: str, dtype: torch.dtype, most: float) -> None:
    visual, pixels = TOWERS[kind]().to(dtype), noise(3, 3, 32, 32).to(dtype)
    expected = visual(pixels)
    size = float(expected.norm(dim=1).mean())
    for options in ({}, {"last": 1}, {"tokens": False}, {"heads": False}, {"tokens": False, "heads": False}):
        parts = Decomposition(**options, chunk=2)(apart(visual), pixels)
        assert parts.total().dtype == dtype
        assert float((parts.total() - expected).abs().max()) / size < most


@pytest.mark.parametrize("kind", ["native", "native-avg", "timm", "timm-avg", "timm-map"])
@torch.no_grad()
def test_it_takes_models_of_open_clip_apart(kind: str) -> None:
    found = encoder(kind)
    pixels = pictures(found.architecture)
    expected = found.model.encode_image(pixels)
    total = Decomposition()(found.tower(), pixels).total()
    torch.testing.assert_close(total, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def by_hand(visual: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """What each head [b, k, t, m, d] and each MLP [b, k, d] writes to the class token, slice by slice."""
    tokens, heads, mlps = visual._embeds(pixels), [], []
    for block in visual.transformer.resblocks:
        attention, normed, width = block.attn, block.ln_1(tokens), tokens.shape[-1]
        written = torch.zeros(len(pixels), tokens.shape[1], 2, width, dtype=tokens.dtype)
        for head in range(2):
            q, k, v = (
                normed @ attention.in_proj_weight[rows].T + attention.in_proj_bias[rows]
                for rows in (slice(w * width + head * 12, w * width + (head + 1) * 12) for w in range(3))
            )
            weights = (q[:, :1] @ k.transpose(1, 2) / math.sqrt(12)).softmax(dim=-1)[:, 0]
            out = attention.out_proj.weight[:, head * 12 : (head + 1) * 12]
            written[:, :, head] = weights[..., None] * v @ out.T
        heads.append(written)
        tokens = tokens + block.attention(block.ln_1(tokens))
        mlps.append(block.mlp(block.ln_2(tokens))[:, 0])
        tokens = tokens + block.mlp(block.ln_2(tokens))
    return torch.stack(heads, dim=1), torch.stack(mlps, dim=1)


def ending(visual: Any, pixels: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Mean and deviation of the class token in front of the final norm, and the norm."""
    first = visual.transformer(visual._embeds(pixels))[:, 0]
    norm = visual.ln_post
    return first.mean(dim=1), (first.var(dim=1, correction=0) + norm.eps).sqrt(), norm


@torch.no_grad()
def test_each_part_is_what_its_head_and_mlp_write_through_the_norm() -> None:
    visual, pixels = open_clip_tower().double(), noise(2, 3, 32, 32).double()
    heads, mlps = by_hand(visual, pixels)
    _, deviation, norm = ending(visual, pixels)

    def through(written: Tensor) -> Tensor:
        scale = deviation.view(-1, *[1] * (written.ndim - 1))
        centred = written - written.mean(dim=-1, keepdim=True)
        found: Tensor = centred / scale * norm.weight @ visual.proj
        return found

    parts = Decomposition()(apart(visual), pixels)
    torch.testing.assert_close(parts.attention, through(heads))
    torch.testing.assert_close(parts.mlp, through(mlps))
    torch.testing.assert_close(parts.start, through(visual._embeds(pixels)[:, 0]))
    torch.testing.assert_close(parts.by_head(), through(heads.sum(dim=2)))


@torch.no_grad()
def test_the_released_code_gives_a_head_that_writes_nothing_a_part() -> None:
    """It spreads mean and biases over all summands; the total is the same."""
    visual, pixels = open_clip_tower().double(), noise(2, 3, 32, 32).double()
    visual.transformer.resblocks[1].attn.out_proj.weight[:, :12] = 0  # head 0 of layer 1 is silent
    heads, mlps = by_hand(visual, pixels)
    mean, deviation, norm = ending(visual, pixels)
    layers, tokens, count = heads.shape[1:4]
    terms, each = 2 * layers + 1, tokens * count
    biases = torch.stack([block.attn.out_proj.bias for block in visual.transformer.resblocks])
    mlps = torch.cat([visual._embeds(pixels)[:, :1], mlps], dim=1)
    spread = heads + biases[:, None, None] / each - mean.view(-1, 1, 1, 1, 1) / (terms * each)
    released = (
        spread / deviation.view(-1, 1, 1, 1, 1) * norm.weight + norm.bias / (terms * each)
    ) @ visual.proj
    others = (mlps - mean.view(-1, 1, 1) / terms) / deviation.view(-1, 1, 1) * norm.weight + norm.bias / terms
    total = released.sum(dim=(1, 2, 3)) + (others @ visual.proj).sum(dim=1)
    torch.testing.assert_close(total, visual(pixels))
    ours = Decomposition()(apart(visual), pixels)
    torch.testing.assert_close(ours.total(), visual(pixels))
    assert float(ours.attention[:, 1, :, 0].abs().max()) == 0
    assert float(released[:, 1, :, 0].abs().min()) > 0
    shared = (released - ours.attention)[:, 1]  # differs by what all tokens and heads of an image share
    spreads = shared - shared.mean(dim=(1, 2), keepdim=True)
    by_token = ours.attention - ours.attention.mean(dim=(2, 3), keepdim=True)
    assert float(spreads.abs().max()) < float(by_token.abs().max())


@torch.no_grad()
def test_sums_over_tokens_and_heads_are_sums_and_start_is_the_rest() -> None:
    tower, pixels = apart(timm_tower(**REGISTERS)), noise(2, 3, 32, 32)
    full = Decomposition()(tower, pixels)
    assert full.attention.shape == (2, 3, 21, 2, 16)
    assert (full.prefix, full.grid, full.first) == (5, (4, 4), 0)
    summed = Decomposition(tokens=False)(tower, pixels).attention
    torch.testing.assert_close(summed[:, :, 0], full.by_head(), atol=1e-5, rtol=1e-5)
    heads = Decomposition(heads=False)(tower, pixels).attention
    torch.testing.assert_close(heads, full.attention.sum(dim=3, keepdim=True), atol=1e-5, rtol=1e-5)
    last = Decomposition(last=1)(tower, pixels)
    assert last.first == 2
    torch.testing.assert_close(last.attention[:, 0], full.attention[:, 2])
    before = full.start + full.attention[:, :2].sum(dim=(1, 2, 3)) + full.mlp[:, :2].sum(dim=1)
    shared = full.bias - last.bias  # of the biases behind the heads of earlier layers
    torch.testing.assert_close(last.start, before + shared, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch_or_chunk() -> None:
    tower, pixels = apart(open_clip_tower()), noise(3, 3, 32, 32)
    one, many = (Decomposition(chunk=chunk)(tower, pixels) for chunk in (1, 3))
    torch.testing.assert_close(one.attention, many.attention, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(one.bias, many.bias)


def test_gradients_reach_the_pixels() -> None:
    pixels = noise(1, 3, 16, 16).double().requires_grad_()
    visual = open_clip_tower(16).double()

    def read(values: Tensor) -> Tensor:
        return Decomposition(tokens=False)(apart(visual), values).by_head()[0, 2, 1]

    read(pixels).sum().backward()
    assert pixels.grad is not None
    step = torch.zeros_like(pixels)
    step[0, 1, 3, 5] = 1e-5
    with torch.no_grad():
        slope = (read(pixels + step) - read(pixels - step)).sum() / 2e-5
    torch.testing.assert_close(pixels.grad[0, 1, 3, 5], slope, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_stays_near(dtype: torch.dtype) -> None:
    visual, pixels = open_clip_tower(), noise(2, 3, 32, 32)
    exact = visual(pixels)
    with torch.autocast("cpu", dtype=dtype):
        found = Decomposition()(apart(visual), pixels).total()
    torch.testing.assert_close(found.float(), exact, atol=0.05 * float(exact.abs().max()), rtol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"last": 0}, "last=0 must be at least 1"), ({"chunk": 0}, "chunk=0 must be at least 1")],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        registry.build("explanations", "decomposition", **options)


def test_what_cannot_be_taken_apart_is_refused() -> None:
    tower, unsaid = apart(open_clip_tower()), noise(1, 3, 32, 32)
    with pytest.raises(ConfigError, match="last=4 must be at most 3"):
        Decomposition(last=4)(tower, unsaid)
    for pixels in (unsaid[:0], unsaid * math.nan):
        with pytest.raises(DataError, match=r"must be \[b, 3, h, w\], b >= 1, and finite"):
            Decomposition()(tower, pixels)
    with pytest.raises(TowerError, match="norms what its heads put out"):
        Decomposition()(apart(open_clip_tower(scale_attn=True)), unsaid)
    with pytest.raises(TowerError, match="OnesTower does not say how it pools"):
        Decomposition()(OnesTower(tower), unsaid)
