"""The processes of one run, as torchrun or srun starts them, and what they exchange."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from patchclip.engine.ranks.rendezvous import open_store
from patchclip.errors import ConfigError, PatchclipError, TrainingError

LONG = timedelta(hours=24)
"""How long ranks wait where one works alone: it evaluates, writes a checkpoint, encodes images."""

PATIENCE = 30.0
"""Minutes a rank waits for the others inside a step, where nobody says otherwise (`parallel.patience`)."""

LOST = ("connection closed by peer", "connection reset by peer", "timed out waiting", "operation timed out")
"""What errors say, in lower case, of a rank that is gone or does not answer."""


@dataclass(frozen=True)
class World:
    """This process among `size`: rank 0 .. size - 1, and its number on this machine.

    `control` is a group of all ranks on the hosts (gloo), for flags, objects and long waits.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    control: dist.ProcessGroup | None = field(default=None, compare=False, repr=False)

    @property
    def main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0


def described() -> World:
    """This process as its launcher describes it: a started group, torchrun's variables, then those of srun.

    Raises:
        ConfigError: srun started several tasks, but nothing says where rank 0 listens.
    """
    given = os.environ
    if dist.is_initialized():
        local = given.get("LOCAL_RANK", given.get("SLURM_LOCALID", dist.get_rank()))
        return World(dist.get_rank(), dist.get_world_size(), int(local))
    if "WORLD_SIZE" in given:
        return World(int(given.get("RANK", 0)), int(given["WORLD_SIZE"]), int(given.get("LOCAL_RANK", 0)))
    size = int(given.get("SLURM_NTASKS", 1))
    if size == 1 or "SLURM_STEP_ID" not in given:  # the batch script itself is no task of srun
        return World()
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in given]
    if missing:
        raise ConfigError(
            f"srun started {size} tasks, but {' and '.join(missing)} must say where rank 0 listens: export "
            "the first node's name and a free port before srun, or use srun --ntasks 1"
        )
    return World(int(given["SLURM_PROCID"]), size, int(given.get("SLURM_LOCALID", 0)))


@contextlib.contextmanager
def joined(device: torch.device, patience: float = PATIENCE) -> Iterator[World]:
    """Joins the process group that the environment describes; leaves it at the end, whatever happens.

    Without a launcher it yields a world of one. Tensors on GPUs go by NCCL, those of the host by gloo. A
    group that was started before is used, and left as it is.

    Args:
        device: that this run computes on.
        patience: minutes that a collective of a step may take before it fails.

    Raises:
        ConfigError: see `described`.
        TrainingError: another rank failed, was killed, or did not answer in time.
    """
    world = described()
    if world.size == 1:
        yield world
        return
    cuda = device.type == "cuda"
    if cuda:
        world = replace(world, local_rank=world.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(world.local_rank)
    ours = not dist.is_initialized()
    with explained(world, patience):
        try:
            if ours:
                backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
                limit = timedelta(minutes=patience)
                store = open_store(world.rank, world.size, limit)
                dist.init_process_group(
                    backend, store=store, timeout=limit, rank=world.rank, world_size=world.size
                )
            control: Any = dist.new_group(backend="gloo", timeout=LONG)
            yield replace(world, control=control)
        except BaseException:
            leave(ours, failed=cuda)
            raise
        leave(ours, failed=False, control=control)


def leave(ours: bool, failed: bool, control: dist.ProcessGroup | None = None) -> None:
    """Ends the group if it is ours, else `control`; after a failure on a GPU without waiting for its work."""
    if not dist.is_initialized():
        return
    if not ours:
        if control is not None:
            dist.destroy_process_group(control)
    elif failed:
        dist.distributed_c10d._abort_process_group()
    else:
        dist.destroy_process_group()


@contextlib.contextmanager
def explained(world: World, patience: float) -> Iterator[None]:
    """Turns what torch raises of a lost rank into an error that says what happened and what to do."""
    try:
        yield
    except PatchclipError:
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(sign in str(error).lower() for sign in LOST):
            raise
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"rank {world.rank} of {world.size} lost another rank ({reason}): it failed, was killed, or took "
            f"longer than parallel.patience={patience:g} minutes. The first error in the output of all ranks "
            "says why; start all of them again with --resume"
        ) from error


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

    def forward(
        self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None, **extras: Any
    ) -> dict[str, Tensor]:
        """Terms of the loss over world * b pairs; extras are rows without a gradient, or the same on all."""
        if self.world.size > 1:
            image, text = AllGather.apply(image), AllGather.apply(text)
            rows = [name for name, value in extras.items() if isinstance(value, Tensor) and value.ndim]
            extras |= {name: gathered_rows(extras[name]) for name in rows}
        terms: dict[str, Tensor] = self.loss(image, text, scale, bias, **extras)
        return terms


def any_rank(flag: bool, world: World, device: torch.device) -> bool:
    """Whether `flag` is set on any rank, so that all stop at the same step."""
    if world.size == 1:
        return flag
    shared = torch.tensor(int(flag), device=device if world.control is None else "cpu")
    dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=world.control)
    return bool(shared.item())


def gathered(items: list[Any], world: World) -> list[Any]:
    """The items of all ranks, in rank order; called on every rank."""
    if world.size == 1:
        return items
    parts: list[Any] = [None] * world.size
    dist.all_gather_object(parts, items, group=world.control)
    return [item for part in parts for item in part]


def wait(world: World) -> None:
    """Waits up to `LONG` until every rank is here: for what one rank does while the others have no work.

    A rank that dies ends the wait at once; one that is stuck does not, only collectives of steps see that.
    """
    if world.size > 1:
        dist.barrier(group=world.control)
