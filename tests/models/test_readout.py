"""How towers pool: what is added to the last tokens adds its own share to the embedding."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchclip.contracts import Pooling, Readout
from patchclip.errors import TowerError
from patchclip.models.image_tower import Tower, image_tower
from patchclip.models.readout import _output
from tests.dense.methods._towers import OnesTower
from tests.models._vits import NO_CLASS, REGISTERS, noise, open_clip_tower, timm_tower

TOWERS: dict[str, Any] = {
    "native": open_clip_tower,
    "native-mean": lambda: open_clip_tower(pool_type="avg"),
    "native-norm-last": lambda: open_clip_tower(pool_type="avg", final_ln_after_pool=True),
    "timm": timm_tower,
    "timm-registers": lambda: timm_tower(**REGISTERS),
    "timm-mean": lambda: timm_tower(class_token=False, global_pool="avg"),
    "timm-mean-norm-first": lambda: timm_tower(global_pool="avg", fc_norm=False),
    "timm-all": lambda: timm_tower(global_pool="avg", pool_include_prefix=True),
    "timm-map": lambda: timm_tower(**NO_CLASS),
}


@pytest.fixture(params=TOWERS)
def visual(request: pytest.FixtureRequest) -> Any:
    return TOWERS[request.param]().double()


@torch.no_grad()
def last(tower: Tower, pixels: Tensor) -> Tensor:
    tokens = tower.embed(pixels)[0]
    for block in tower.blocks:
        tokens = block(tokens)
    return tokens


@torch.no_grad()
def test_the_tokens_and_the_bias_are_the_embedding(visual: Any) -> None:
    tower, pixels = image_tower(visual), noise(3, 3, 32, 32).double()
    tokens = last(tower, pixels)
    readout: Readout = tower.readout(tokens)
    assert isinstance(tower, Pooling)
    found = readout.direct(tokens[:, readout.places]) + readout.bias
    torch.testing.assert_close(found, visual(pixels), atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_it_is_linear_and_the_same_for_every_image_where_it_is_told_so(visual: Any) -> None:
    tower = image_tower(visual)
    tokens = last(tower, noise(2, 3, 32, 32).double())
    readout = tower.readout(tokens)
    shape = tokens[:, readout.places].shape
    first, second = (noise(*shape).double() + i for i in (0, 1))
    torch.testing.assert_close(
        readout.direct(2 * first - second), 2 * readout.direct(first) - readout.direct(second)
    )
    one = noise(1, 1, shape[2]).double()
    torch.testing.assert_close(readout.direct(one), readout.direct(one.expand(shape)))


@torch.no_grad()
def test_what_is_the_same_in_all_numbers_of_a_token_is_lost_in_the_norm(visual: Any) -> None:
    tower = image_tower(visual)
    readout = tower.readout(last(tower, noise(2, 3, 32, 32).double()))
    gone = readout.direct(torch.ones(1, 1, 24, dtype=torch.float64))
    torch.testing.assert_close(gone, torch.zeros_like(gone))


@pytest.mark.parametrize("kind", ["native", "timm", "timm-map"])
@torch.no_grad()
def test_what_heads_add_is_what_their_block_adds(kind: str) -> None:
    """Each block's attention, whole, passes the pooling as the sum of its heads and tokens and its bias."""
    visual = TOWERS[kind]().double()
    tower = image_tower(visual)
    tokens = noise(2, 17 if kind != "timm-map" else 16, 24).double()
    readout, block = tower.readout(tokens), tower.blocks[1]
    q, k, v = block.qkv(tokens)
    added = block.merge((q @ k.transpose(2, 3) * 12**-0.5).softmax(dim=-1) @ v)
    expected = readout.direct(added[:, readout.places])
    for by_token in (True, False):
        for by_head in (True, False):
            found = readout.attended(block, tokens, by_token, by_head)
            assert found.shape == (2, tokens.shape[1] if by_token else 1, 2 if by_head else 1, 16)
            torch.testing.assert_close(found.sum(dim=(1, 2)) + readout.offset(block), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_stays_near_and_sums_in_float32(dtype: torch.dtype) -> None:
    for kind in ("native", "timm-registers", "timm-map"):
        visual = TOWERS[kind]()
        tower, pixels = image_tower(visual), noise(2, 3, 32, 32)
        exact = visual(pixels)
        with torch.autocast("cpu", dtype=dtype):
            tokens = last(tower, pixels)
            readout = tower.readout(tokens)
            assert readout.weights.dtype == torch.float32
            found = readout.direct(tokens[:, readout.places]) + readout.bias
        torch.testing.assert_close(found.float(), exact, atol=0.03 * float(exact.abs().max()), rtol=0)


def change(visual: Any, what: str) -> Any:
    trunk = getattr(visual, "trunk", None)
    if what == "none":
        visual.pool_type = "none"
    elif what == "max":
        trunk.global_pool = "max"
    elif what == "two norms":
        trunk.fc_norm = nn.LayerNorm(24)
    elif what == "mlp":
        visual.head = nn.Sequential(nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 16))
    elif what == "norm":
        trunk.norm = nn.RMSNorm(24)
    elif what == "positions":
        trunk.attn_pool.pos_embed = nn.Parameter(torch.zeros(16, 24))
    return visual


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("none", "pool_type='none'"),
        ("max", "global_pool='max'"),
        ("two norms", "norms in front of the pooling and behind it"),
        ("mlp", "the projection GELU"),
        ("norm", "the norm RMSNorm"),
        ("positions", "the pool AttentionPoolLatent"),
    ],
)
def test_embeddings_that_are_no_sum_are_refused(what: str, said: str) -> None:
    kind = {"none": "native", "positions": "timm-map"}.get(what, "timm")
    tower = image_tower(change(TOWERS[kind](), what))
    with pytest.raises(TowerError, match=f"^{said}.*: the image embedding is no weighted sum of tokens"):
        tower.readout(noise(1, 16, 24))


@pytest.mark.parametrize(
    "visual",
    [
        open_clip_tower(scale_attn_inner=True),
        open_clip_tower(scale_attn=True),
        timm_tower(scale_attn_norm=True),
    ],
)
def test_blocks_that_norm_their_heads_are_refused(visual: Any) -> None:
    with pytest.raises(TowerError, match="norms what its heads put out"):
        image_tower(visual).blocks[0].output()


@pytest.mark.parametrize(
    "visual",
    [
        open_clip_tower(),
        open_clip_tower(scale_heads=True),
        open_clip_tower(ls_init_value=0.1),
        timm_tower(),
        timm_tower(init_values=0.1),
        timm_tower(proj_bias=False),
    ],
)
@torch.no_grad()
def test_the_output_of_a_block_is_its_merge(visual: Any) -> None:
    """Weights and bias of each head by unit vectors."""
    block, values = image_tower(visual).blocks[1], noise(2, 2, 5, 12)
    weight, bias = block.output()
    found = torch.einsum("bmtc,mcd->btd", values, weight) + bias
    torch.testing.assert_close(found, block.merge(values))


def test_a_block_of_another_kind_is_refused() -> None:
    other = OnesTower(image_tower(open_clip_tower())).blocks[0]
    with pytest.raises(TowerError, match="the block OnesBlock"):
        _output(other)
