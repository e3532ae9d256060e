"""Compiled blocks: the same numbers, few graphs, the same checkpoints."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from patchclip.errors import TowerError
from patchclip.masking.random import RandomMask
from patchclip.models.blocks import compile_blocks, find_blocks
from patchclip.models.masked import attach
from tests.models._tiny import TOWERS, build, embed, pictures

# torch itself warns while it traces; pytest turns warnings into errors
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture(autouse=True)
def fresh_graphs() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", list(TOWERS))
def test_the_blocks_of_both_towers_are_found(kind: str) -> None:
    model = build(kind).model
    assert len(find_blocks(model)) == len(find_blocks(model.visual)) + 1
    assert len(find_blocks(model.visual)) >= 1


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(TowerError, match=r"no transformer blocks.*train.compile=false"):
        compile_blocks(nn.Linear(1, 1))


@pytest.mark.parametrize(
    "kind, checkpointing", [("native", False), ("native", True), ("timm", True), ("eva", False)]
)
def test_masked_gradients_are_those_of_the_uncompiled_model(kind: str, checkpointing: bool) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    attach(model, RandomMask(0.5))
    model.set_grad_checkpointing(checkpointing)
    twin = copy.deepcopy(model)
    assert compile_blocks(twin, backend="aot_eager") == len(find_blocks(model))
    assert list(twin.state_dict()) == list(model.state_dict())
    for one in (model, twin):
        embed(one, pixels).pow(2).sum().backward()
    pairs = zip(model.named_parameters(), twin.parameters(), strict=True)
    for (name, parameter), other in pairs:
        if parameter.grad is not None:
            torch.testing.assert_close(other.grad, parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", ["native", "timm"])
def test_one_graph_a_length_whatever_the_batch_draws(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, RandomMask((0.25, 0.75), "linear"))
    counter = CompileCounter()
    for block in find_blocks(model.visual):
        block.compile(backend=counter, dynamic=False)
    torch._dynamo.config.recompile_limit = 64
    lengths = set()
    for step in range(20):
        slot.progress, slot.seed = step / 20, (step,)
        embed(model, pixels).sum().backward()
        assert slot.keep is not None
        lengths.add(slot.keep.shape[1])
    assert len(lengths) == 5
    assert counter.frame_count <= len(lengths), "blocks of a kind share their graphs"
    before = counter.frame_count
    for step in range(20):
        slot.progress, slot.seed = step / 20, (step, 1)
        embed(model, pixels)
    assert counter.frame_count == before, "a batch made a new graph"
