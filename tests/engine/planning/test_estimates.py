"""Operations counted by torch are those of the formula; memory and speed lie where they were measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from patchclip.engine.assemble import assemble
from patchclip.engine.planning.estimates import (
    GPUS,
    HeadCost,
    Inputs,
    Step,
    activations,
    pair_flops,
    pairs_per_second,
    step_memory,
)
from patchclip.engine.planning.plan import plan
from patchclip.engine.ranks.distributed import World
from patchclip.masking.random import RandomMask
from patchclip.models.cost import measure, outline
from patchclip.models.masked import attach
from tests.engine._tiny import aligned
from tests.models._tiny import TOWERS, build, pictures

WORDS = 16
DENSE = Inputs(196, 196, 77)
PAPER = Step(4096, 8, recompute=True)


def trained(kind: str, ratio: float, recompute: bool) -> tuple[Any, Inputs, Tensor, Tensor]:
    """A tiny model in train mode under a mask, what its inputs count, and two pairs."""
    architecture = build(kind)
    model = architecture.model.train()
    model.set_grad_checkpointing(recompute)
    masker = RandomMask(ratio)
    if ratio:
        attach(model, masker)
    patches = (architecture.image_size // measure(model, architecture.model_cfg).image.patch) ** 2
    inputs = Inputs(patches, masker.kept(patches, 0.0), WORDS)
    return architecture, inputs, pictures(architecture, 2), torch.randint(1, 400, (2, WORDS))


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("kind", TOWERS)
def test_operations_are_those_that_torch_counts(kind: str, ratio: float, recompute: bool) -> None:
    architecture, inputs, pixels, tokens = trained(kind, ratio, recompute)
    model = architecture.model
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        image = F.normalize(model.encode_image(pixels), dim=-1)
        text = F.normalize(model.encode_text(tokens), dim=-1)
        (model.logit_scale.exp() * image @ text.T).sum().backward()
    expected = pair_flops(measure(model, architecture.model_cfg), inputs, Step(2, recompute=recompute))
    assert counter.get_total_flops() == 2 * expected


def test_operations_of_a_head_are_nearly_those_that_torch_counts(
    tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = aligned(pairs, tmp_path / "run")
    parts = assemble(config, World(), torch.device("cpu"))
    batch = next(parts.stream.batches(0))
    pixels, tokens = batch.pixels, batch.tokens  # with their padding, which the plan counts
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)  # it is not counted
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        parts.gradients(pixels, tokens, (0, 0, 0), lambda loss: loss)
    model = measure(parts.model, parts.architecture.model_cfg)
    found = plan(config, 1)
    assert found.head == "pacl"
    assert found.parameters == model.parameters
    head = HeadCost(sum(p.numel() for p in parts.head.module.parameters()))
    expected = 8 * pair_flops(model, Inputs(16, 16, 16), Step(8, head=head))
    assert found.flops_per_step == expected
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.05)  # frozen tokens have no gradient
    kept = Step(8, head=replace(head, forwards=0.1))
    assert 0 < pair_flops(model, Inputs(16, 16, 16), kept) < expected / 8


@pytest.mark.parametrize(
    ("kept", "words", "ratio"),
    [(137, 77, 0.738), (98, 77, 0.568), (49, 77, 0.358), (196, 16, 0.884), (98, 16, 0.452), (98, 8, 0.437)],
)
def test_ratios_to_dense_of_vit_b_16(kept: int, words: int, ratio: float) -> None:
    """By hand: blocks 12 n d^2 + 2 n^2 d, threefold; stem twofold; 12 blocks of 768 and of 512."""

    def macs(n: int, s: int) -> float:
        image = 12 * (12 * n * 768**2 + 2 * n**2 * 768)
        return 3 * (image + 12 * (12 * s * 512**2 + 2 * s**2 * 512)) + 2 * 196 * 768**2

    model, step = outline("ViT-B-16"), Step(512)
    found = pair_flops(model, Inputs(196, kept, words), step) / pair_flops(model, DENSE, step)
    assert found == pytest.approx(macs(kept + 1, words) / macs(197, 77), rel=2e-3)
    assert found == pytest.approx(ratio, abs=1.5e-3)


def test_micro_batches_views_and_a_teacher_cost_what_they_add() -> None:
    model = outline("ViT-B-16")
    plain = pair_flops(model, DENSE, Step(512))
    forward = 2 * (17.56345344e9 + 2.979770368e9)
    twice = pair_flops(model, DENSE, Step(512, micro_batch=64))
    assert twice - plain == pytest.approx(forward)
    assert pair_flops(model, DENSE, Step(512, micro_batch=512)) == plain
    guided = pair_flops(model, replace(DENSE, guide=49), Step(512))
    teacher = model.image.blocks_macs(50) + 49 * model.image.stem
    assert guided - plain == pytest.approx(2 * teacher)
    views = pair_flops(model, replace(DENSE, kept=98, views=2), Step(512))
    one = pair_flops(model, replace(DENSE, kept=98), Step(512))
    text = 6 * (model.text.blocks_macs(77) + model.text.head_macs(77))
    assert views == pytest.approx(2 * one - text)


def saved_bytes(encode: Any, inputs: Tensor, model: Any) -> int:
    """Bytes that one forward keeps for its backward, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encode(inputs)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("ratio", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["native", "timm", "eva"])
def test_activations_are_those_that_autograd_keeps(kind: str, ratio: float) -> None:
    architecture, inputs, pixels, _ = trained(kind, ratio, recompute=False)
    tower = measure(architecture.model, architecture.model_cfg).image
    found = saved_bytes(architecture.model.encode_image, pixels, architecture.model) - pixels.numel() * 4
    blocks = activations(tower, inputs.kept, Step(2, bytes=4)) * tower.blocks / (tower.blocks + 1)
    assert found / 2 == pytest.approx(blocks, rel=0.25)


def test_checkpointing_masking_and_ranks_save_memory() -> None:
    model = outline("ViT-B-16")
    paper = step_memory(model, DENSE, PAPER)
    assert paper["weights"] * 2**30 == 4 * model.parameters
    assert paper["optimizer"] == 2 * paper["gradients"] == 2 * paper["weights"]
    assert paper["total"] == pytest.approx(sum(v for name, v in paper.items() if name != "total"))
    assert paper["logits"] * 2**30 == 5 * 4 * 4096**2
    without = step_memory(model, DENSE, Step(4096, 8))
    masked = step_memory(model, replace(DENSE, kept=98), PAPER)
    micro = step_memory(model, DENSE, Step(4096, 8, micro_batch=512, recompute=True))
    assert without["activations"] > 4 * paper["activations"]
    assert masked["activations"] < 0.75 * paper["activations"]
    assert micro["activations"] == pytest.approx(paper["activations"] / 8)
    assert step_memory(model, DENSE, Step(4096, 8, averaged=True))["copies"] > without["copies"]


@pytest.mark.parametrize(("gpu", "published"), [("V100", 223), ("V100", 231), ("A100", 332)])
@pytest.mark.parametrize("recompute", [False, True])
def test_published_speeds_lie_in_the_range(gpu: str, published: float, recompute: bool) -> None:
    """ViT-B/16 CLIP at 224 px, pairs/s on a GPU; whether the runs recomputed activations is not known."""
    flops = pair_flops(outline("ViT-B-16"), DENSE, Step(4096, 8, recompute=recompute))
    low, high = pairs_per_second(next(g for g in GPUS if g.name == gpu), flops, "fp16")
    assert low < published < high


def test_float32_and_old_gpus_are_slower() -> None:
    v100, a100 = GPUS[:2]
    for gpu, precision in ((v100, "bf16"), (v100, "auto"), (a100, "fp32")):
        assert pairs_per_second(gpu, 1e11, precision)[1] < pairs_per_second(gpu, 1e11, "fp16")[0]
    assert pairs_per_second(a100, 1e11, "auto") == pairs_per_second(a100, 1e11, "fp16")


def test_rows_and_tiles_of_the_table_of_logits() -> None:
    """5 or 4 matrices of 4 bytes; 8 ranks of 512 pairs."""
    whole = 4 * 4096**2
    assert Step(4096, 8).table == 5 * whole
    assert Step(4096, 8, exchange="local").table == 4 * whole / 8
    assert Step(4096, 8, exchange="ring").table == 4 * whole / 64
    assert Step(4096, 8, tile=1024).table == 4 * 4 * 1024**2
    assert Step(4096, 8, exchange="local", tile=1024).table == 4 * 4 * 512 * 1024
    assert Step(4096, 1, exchange="local").table == 5 * whole
    assert [Step(4096, 8).products, Step(4096, 8, exchange="local").products] == [24, 4]
    assert [Step(4096, 8, tile=64).products, Step(4096, 1, exchange="ring").products] == [32, 3]


def test_shards_hold_a_part_of_what_weights_need() -> None:
    model = outline("ViT-B-16")
    one, parts = (step_memory(model, DENSE, Step(4096, 8, sharded=sharded)) for sharded in (False, True))
    for name in ("weights", "gradients", "optimizer"):
        assert parts[name] == one[name] / 8
    assert one["copies"] - parts["copies"] == pytest.approx(4 * model.parameters / 2**30)
    assert parts["activations"] == one["activations"]


def test_companions_and_a_frozen_teacher_cost_what_torch_counts() -> None:
    architecture, inputs, pixels, tokens = trained("native", 0.0, False)
    model, step = architecture.model, Step(2)
    told = measure(model, architecture.model_cfg)
    plain = pair_flops(told, inputs, step)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model.encode_text(tokens)
    one_text = counter.get_total_flops() / 2
    assert pair_flops(told, replace(inputs, texts=3), step) - plain == pytest.approx(6 * one_text)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model.encode_text(tokens)
        model.encode_image(pixels)
    teacher = pair_flops(told, replace(inputs, teacher=inputs.patches), step) - plain
    assert teacher == pytest.approx(counter.get_total_flops() / 2, rel=0.02)
    memory = [step_memory(told, each, step) for each in (inputs, replace(inputs, texts=2, teacher=4))]
    assert memory[1]["activations"] > memory[0]["activations"]
    assert memory[1]["copies"] > memory[0]["copies"]
