"""Kept positions in training: the same bits whatever the optimiser does."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from patchclip.engine.optim import adamw, decays
from patchclip.models.architectures import Architecture
from patchclip.models.context.clipmd import ClipMD
from patchclip.models.context.long_clip import LongClip
from patchclip.models.long_context import hold_positions, own_rows, stretched
from patchclip.models.text import text_tower
from tests.models._lively import lively

METHOD = LongClip(6, 3)
TEXTS = ["a dog and a cat on a red chair in the old house beside the lake under a tree", "a cat"]


def longer(**text: Any) -> tuple[Architecture, Tensor]:
    made = stretched(lively(**text), METHOD)
    made.model.train()
    return made, text_tower(made.model).positional_embedding


def step(made: Architecture, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    embedded = made.model.encode_text(made.tokenizer(TEXTS))
    (embedded * torch.linspace(-1, 1, embedded.numel()).view_as(embedded)).sum().backward()
    optimizer.step()


def test_without_holding_them_weight_decay_moves_them() -> None:
    made, table = longer()
    assert decays("positional_embedding", made.model.positional_embedding)
    before = table.detach().clone()
    table.register_hook(lambda grad: torch.cat([torch.zeros_like(grad[:6]), grad[6:]]))
    step(made, adamw(made.model, 1e-3, (0.9, 0.98), 1e-6, 0.2))
    assert (table[:6] != before[:6]).all()  # a gradient of zero is not enough


@pytest.mark.parametrize("text", [{}, {"custom": True}], ids=["CLIP", "custom"])
def test_held_positions_keep_their_bits_and_the_others_are_trained(text: dict[str, Any]) -> None:
    made, table = longer(**text)
    optimizer = adamw(made.model, 1e-3, (0.9, 0.98), 1e-6, 0.2)
    hold_positions(made.model, METHOD, optimizer)
    before = table.detach().clone()
    for _ in range(3):
        step(made, optimizer)
    assert torch.equal(table[:6], before[:6])
    assert (table[6:] != before[6:]).all()
    assert table.grad is not None
    assert table.grad[:6].abs().max() == 0
    assert table.grad[6:].abs().max() > 0


def test_the_others_are_trained_as_without() -> None:
    (one, held), (other, free) = longer(), longer()
    for made, hold in ((one, True), (other, False)):
        optimizer = adamw(made.model, 1e-3, (0.9, 0.98), 1e-6, 0.2)
        if hold:
            hold_positions(made.model, METHOD, optimizer)
        step(made, optimizer)
    assert torch.equal(held[6:], free[6:])
    assert (held[:6] != free[:6]).any()


def test_weights_that_are_put_back_in_between_are_the_ones_held() -> None:
    made, table = longer()
    optimizer = adamw(made.model, 1e-3, (0.9, 0.98), 1e-6, 0.2)
    hold_positions(made.model, METHOD, optimizer)
    with torch.no_grad():
        table.mul_(2)  # as a checkpoint that is read would
    before = table.detach().clone()
    step(made, optimizer)
    assert torch.equal(table[:6], before[:6])


def test_a_frozen_tower_and_a_method_without_kept_rows_are_left_alone() -> None:
    made, table = longer()
    optimizer = adamw(made.model, 1e-3, (0.9, 0.98), 1e-6, 0.2)
    hold_positions(made.model, ClipMD(), optimizer)
    before = table.detach().clone()
    step(made, optimizer)
    assert (table[:6] != before[:6]).any()
    made, table = longer()
    table.requires_grad_(False)
    hold_positions(made.model, METHOD, torch.optim.SGD([torch.zeros(1, requires_grad=True)]))


def test_the_rows_of_a_share() -> None:
    """FSDP2 cuts a table along its rows; alone a process holds them all."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        table = torch.arange(12.0).view(6, 2)
        shared = distribute_tensor(table, init_device_mesh("cpu", (1,)), [Shard(0)])
        assert isinstance(shared, DTensor)
        rows = own_rows(shared, 4)
        assert torch.equal(rows, table[:4])
        rows.zero_()
        assert shared.full_tensor()[:4].abs().max() == 0
        assert torch.equal(own_rows(table, 4), table[:4])
    finally:
        dist.destroy_process_group()
