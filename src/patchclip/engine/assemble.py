"""Builds the parts of a training run from its configuration."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from patchclip import registry
from patchclip.config import TrainConfig, method
from patchclip.contracts import Batch, ClipStats, GradClipper
from patchclip.data.pairs import Columns, PairSource, open_pairs
from patchclip.data.stream import PairStream, StreamOptions
from patchclip.engine.captions import build_reducer
from patchclip.engine.distributed import GatheredLoss, World
from patchclip.engine.optim import adamw
from patchclip.engine.stages import readings
from patchclip.engine.step import ContrastiveStep, Towers
from patchclip.engine.teacher import Teacher, build_teacher
from patchclip.engine.views import ViewLoss, build_views, with_heads
from patchclip.errors import ConfigError
from patchclip.models.architectures import Architecture, create
from patchclip.models.blocks import compile_blocks
from patchclip.models.masked import MaskSlot, attach, hash_seed
from patchclip.models.towers import PRECISIONS

MAX_LOGIT_SCALE = math.log(100)


@dataclass
class Parts:
    """Everything one training run is made of, on one rank."""

    architecture: Architecture
    source: PairSource
    stream: PairStream
    slot: MaskSlot | None
    teacher: Teacher | None
    loss: nn.Module
    gradients: ContrastiveStep
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    clipper: GradClipper
    ema: AveragedModel | None
    device: torch.device
    total_steps: int
    bad_in_a_row: Tensor = field(init=False)
    bad_in_all: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.bad_in_a_row = torch.zeros((), device=self.device)
        self.bad_in_all = torch.zeros((), device=self.device)

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self.architecture.model

    def to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pixels and tokens where the model lies."""
        return (
            batch.pixels.to(self.device, non_blocking=True),
            batch.tokens.to(self.device, non_blocking=True),
        )

    def update(self) -> ClipStats:
        """Clips, steps, averages: an update whose gradients are not finite is skipped on the device."""
        self.scaler.unscale_(self.optimizer)
        stats = self.clipper((*self.model.named_parameters(), *self.loss.named_parameters("loss")))
        bad = (~torch.isfinite(stats.norm)).float()
        if not self.scaler.is_enabled():
            self.optimizer.found_inf = bad  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        if self.teacher is not None and self.slot is not None:
            self.teacher.follow(self.model, self.slot.progress)
        self.bad_in_a_row = (self.bad_in_a_row + bad) * bad
        self.bad_in_all = self.bad_in_all + bad
        return stats

    def final_weights(self) -> dict[str, Tensor]:
        """The weights a run ends with: averaged ones if there are any."""
        return (self.model if self.ema is None else self.ema.module).state_dict()


def assemble(config: TrainConfig, world: World, device: torch.device) -> Parts:
    """Builds every part, the same on each rank but for its share of the data.

    Raises:
        ConfigError: a name, option or combination that does not exist.
        DataError: no usable pairs.
        TowerError: a masker on a tower that cannot drop tokens.
        CheckpointError: unreadable `model.pretrained`.
    """
    torch.manual_seed(hash_seed((config.train.seed,)))  # initial weights
    loss: nn.Module = build_method(config, "loss")
    architecture = build_architecture(config, loss)
    model = architecture.model.to(device).train()
    if config.train.grad_checkpointing:
        model.set_grad_checkpointing(True)
    slot = build_slot(config, model)
    teacher = build_teacher(slot, model)
    loss = with_heads(loss, architecture.model_cfg["embed_dim"], device)
    if config.train.compile:
        compile_blocks(model)
    source = open_source(config)
    stream = open_stream(config, source, architecture, world)
    views = build_views(config.train, loss, slot, teacher)
    net: nn.Module = Towers(model, views)
    if world.size > 1:
        net = DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)
    gradients = ContrastiveStep(
        net,
        GatheredLoss(loss if views is None else ViewLoss(loss, views.count), world),
        slot,
        per_rank_micro_batch(config, world),
        autocast(config, device),
        kernels(config, device),
        world.size,
        teacher,
        views,
    )
    optim = config.optim
    learnt = nn.ModuleDict({"model": model, "loss": loss})  # some losses have heads
    optimizer = adamw(learnt, optim.lr, (optim.beta1, optim.beta2), optim.eps, optim.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=config.train.precision == "fp16")
    clipper = build_method(config, "stability")
    decay = config.train.ema
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
    total = total_steps(config, len(source))
    training = (loss, gradients, optimizer, scaler, clipper, ema)
    return Parts(architecture, source, stream, slot, teacher, *training, device, total)


def build_method(config: TrainConfig, section: str) -> Any:
    """The masker, loss or clipper that a section of the configuration chooses."""
    family, name, options = method(config, section)
    return registry.build(family, name, **options)


def build_architecture(config: TrainConfig, loss: nn.Module) -> Architecture:
    """The model; a loss that asks for its own initial temperature and bias gets them."""
    model = config.model
    overrides = dict(model.overrides)
    initial = getattr(loss, "initial_logits", None)
    if initial is not None:
        scale, bias = initial
        overrides = {"init_logit_scale": math.log(scale), "init_logit_bias": bias, **overrides}
    return create(
        model.name,
        pretrained=model.pretrained,
        image_size=model.image_size,
        context_length=model.context_length,
        overrides=overrides,
    )


def build_slot(config: TrainConfig, model: nn.Module) -> MaskSlot | None:
    """The mask slot; dense training at one size needs none, so that towers without tokens train too."""
    masker = build_method(config, "masking")
    resized = any(stage.image_size is not None for stage in config.train.stages)
    return attach(model, masker) if resized or config.masking["name"] != "none" else None


def open_source(config: TrainConfig) -> PairSource:
    """The pairs that `data.pairs` names."""
    data = config.data
    columns = Columns(data.image_column, data.caption_column, data.separator, data.caption_separator)
    return open_pairs(data.pairs, columns=columns, split=data.split)


def open_stream(
    config: TrainConfig, source: PairSource, architecture: Architecture, world: World
) -> PairStream:
    """This rank's share of the training batches, preprocessed as the model expects."""
    if config.train.batch_size % world.size:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} is the batch of all ranks: "
            f"it must divide by {world.size}"
        )
    stream = StreamOptions(
        batch_size=config.train.batch_size // world.size,
        seed=config.train.seed,
        rank=world.rank,
        world_size=world.size,
        workers=config.data.workers,
        caption=config.data.caption,
        max_bad_share=config.data.max_bad_share,
    )
    reducer = build_reducer(config, source, architecture)
    first, *later = readings(config, architecture, reducer, total_steps(config, len(source)))
    return PairStream(source, first.transform, first.tokenizer, stream, later)


def per_rank_micro_batch(config: TrainConfig, world: World) -> int | None:
    """Pairs one rank holds with their graph; `train.micro_batch` counts those of all ranks."""
    if config.train.micro_batch is None:
        return None
    return max(1, config.train.micro_batch // world.size)


def autocast(
    config: TrainConfig, device: torch.device
) -> Callable[[], contextlib.AbstractContextManager[object]]:
    """Makes the context of `train.precision`."""
    kind = PRECISIONS[choose_precision(config.train.precision, device)]
    return lambda: torch.autocast(device.type, dtype=kind, enabled=kind != torch.float32)


def kernels(
    config: TrainConfig, device: torch.device
) -> Callable[[], contextlib.AbstractContextManager[object]]:
    """Makes the context that chooses attention kernels.

    On CPUs, bf16 attention runs as plain matrix products: the fused kernel's backward is several times slower
    there for the short sequences that masking leaves (benchmarks/attention.py).
    """
    if device.type == "cpu" and choose_precision(config.train.precision, device) == "bf16":
        return lambda: sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext


def choose_precision(precision: str, device: torch.device) -> str:
    """ "auto" as bf16 where the device computes in it natively, else fp32; any other as it is."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return "bf16" if native and torch.cpu._is_avx512_bf16_supported() else "fp32"


def total_steps(config: TrainConfig, pairs: int) -> int:
    """Optimiser steps of the run: whole batches in `epochs` passes, at most `max_steps`, at least 1."""
    steps = max(1, math.floor(config.train.epochs * pairs / config.train.batch_size))
    return steps if config.train.max_steps is None else min(steps, config.train.max_steps)
