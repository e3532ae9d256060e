"""The processes of one run, as torchrun starts them, and what they exchange."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(hours=6)
"""How long ranks wait for each other: rank 0 evaluates alone, and that may take a while."""


@dataclass(frozen=True)
class World:
    """This process among `size`: rank 0 .. size - 1, and its number on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Joins the process group that torchrun describes in the environment; leaves it at the end.

    Without torchrun it yields a world of one. NCCL on GPUs, gloo on CPUs.
    """
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield World()
        return
    world = World(
        int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", 0))
    )
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield world
    finally:
        if ours:
            dist.destroy_process_group()


class AllGather(torch.autograd.Function):
    """Rows of all ranks, in rank order; the gradient of a row is summed over the ranks that used it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """[b, e] on each rank -> [world * b, e] on every rank."""
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Sum over ranks, this rank's rows."""
        total = gradients[0].clone().contiguous()
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.rows :][: ctx.rows]


def gathered_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks, in rank order, without a gradient; as many on each rank."""
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class GatheredLoss(nn.Module):
    """A loss on the embeddings of all ranks: the same value, and gradient, as one process with all of them.

    Every rank computes the whole loss; the sum over ranks in `AllGather.backward` and the mean that
    DistributedDataParallel takes over ranks cancel.
    """

    def __init__(self, loss: nn.Module, world: World) -> None:
        super().__init__()
        self.loss, self.world = loss, world

    def forward(self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
        """Terms of the loss over world * b pairs."""
        if self.world.size > 1:
            image, text = AllGather.apply(image), AllGather.apply(text)
        terms: dict[str, Tensor] = self.loss(image, text, scale, bias)
        return terms


def any_rank(flag: bool, world: World, device: torch.device) -> bool:
    """Whether `flag` is set on any rank, so that all stop at the same step."""
    if world.size == 1:
        return flag
    shared = torch.tensor(int(flag), device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared.item())


def gathered(items: list[Any], world: World) -> list[Any]:
    """The items of all ranks, in rank order; called on every rank."""
    if world.size == 1:
        return items
    parts: list[Any] = [None] * world.size
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def wait(world: World) -> None:
    """Waits until every rank is here."""
    if world.size > 1:
        dist.barrier()
