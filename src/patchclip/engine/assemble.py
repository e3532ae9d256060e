"""Builds the parts of a training run from its configuration."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from patchclip import registry
from patchclip.config import TrainConfig, chooses, method
from patchclip.contracts import Batch, ClipStats, GradClipper
from patchclip.data.features import FeatureSource, Filling, as_kept
from patchclip.data.pairs import Columns, PairSource, open_pairs
from patchclip.data.stream import PairStream, StreamOptions
from patchclip.engine.align import AlignmentStep, PairwiseHead
from patchclip.engine.captions import build_reducer
from patchclip.engine.distributed import GatheredLoss, World, wait
from patchclip.engine.head import build_head, frozen_towers, kept_features
from patchclip.engine.optim import adamw
from patchclip.engine.precision import autocast, kernels
from patchclip.engine.stages import readings
from patchclip.engine.step import ContrastiveStep, Towers
from patchclip.engine.teacher import Teacher, build_teacher
from patchclip.engine.views import ViewLoss, build_views, with_heads
from patchclip.errors import ConfigError
from patchclip.models.architectures import Architecture, create
from patchclip.models.blocks import compile_blocks
from patchclip.models.heads import Head
from patchclip.models.masked import MaskSlot, attach, hash_seed
from patchclip.models.text import unpadded

MAX_LOGIT_SCALE = math.log(100)
Gradients = ContrastiveStep | AlignmentStep
OnFilled = Callable[[int, int], object]


@dataclass
class Parts:
    """Everything one training run is made of, on one rank."""

    architecture: Architecture
    head: Head | None
    source: PairSource
    stream: PairStream
    loss: nn.Module
    gradients: Gradients
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
        """The CLIP; with a head it is frozen."""
        return self.architecture.model

    @property
    def slot(self) -> MaskSlot | None:
        """Where patches are dropped, if they are."""
        return self.gradients.slot

    @property
    def teacher(self) -> Teacher | None:
        """What guides the masker, if anything does."""
        return self.gradients.teacher

    @property
    def trained(self) -> nn.Module:
        """What is trained: the head if there is one, else the model."""
        return self.model if self.head is None else self.head.module

    def to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pixels and tokens where the model lies; a frozen text tower is spared the padding."""
        tokens = batch.tokens if self.head is None else unpadded(self.model, batch.tokens)
        return (
            batch.pixels.to(self.device, non_blocking=True),
            tokens.to(self.device, non_blocking=True),
        )

    def update(self) -> ClipStats:
        """Clips, steps, averages: an update whose gradients are not finite is skipped on the device."""
        self.scaler.unscale_(self.optimizer)
        stats = self.clipper((*self.trained.named_parameters(), *self.loss.named_parameters("loss")))
        bad = (~torch.isfinite(stats.norm)).float()
        if not self.scaler.is_enabled():
            self.optimizer.found_inf = bad  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.head is None:
            with torch.no_grad():
                self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        if self.ema is not None:
            self.ema.update_parameters(self.trained)
        if self.teacher is not None and self.slot is not None:
            self.teacher.follow(self.model, self.slot.progress)
        self.bad_in_a_row = (self.bad_in_a_row + bad) * bad
        self.bad_in_all = self.bad_in_all + bad
        return stats

    def final_weights(self) -> dict[str, Tensor]:
        """What was trained as a run ends with it: averaged weights if there are any."""
        return (self.trained if self.ema is None else self.ema.module).state_dict()


def assemble(
    config: TrainConfig, world: World, device: torch.device, on_filled: OnFilled | None = None
) -> Parts:
    """Builds every part, the same on each rank but for its share of the data.

    Args:
        config: of the run.
        world: this process among all.
        device: where to train.
        on_filled: called with the images encoded and those to encode while `data.features` is filled; what
            it raises ends that.

    Raises:
        ConfigError: a name, option or combination that does not exist.
        DataError: no usable pairs.
        TowerError: a masker on a tower that cannot drop tokens, a head on one that cannot be taken apart.
        CheckpointError: unreadable `model.pretrained`.
    """
    per_rank_batch(config, world)
    torch.manual_seed(hash_seed((config.train.seed,)))  # initial weights
    loss: nn.Module = build_method(config, "loss")
    architecture = build_architecture(config, loss)
    architecture.model.to(device)
    head = build_head(config, architecture, device)
    source = open_source(config)
    if head is None:
        loss = with_heads(loss, architecture.model_cfg["embed_dim"], device)
        gradients: Gradients = contrastive_step(config, architecture, loss, world, device)
        trained = architecture.model
    else:
        towers = frozen_towers(architecture, autocast(config, device), per_rank_micro_batch(config, world))
        gradients = AlignmentStep(
            shared(PairwiseHead(head.module, towers.size), world, device), towers, loss, world
        )
        filling = Filling(
            workers=config.data.workers,
            rank=world.rank,
            world_size=world.size,
            wait=partial(wait, world),
            on_progress=on_filled,
        )
        source = kept_features(config, source, architecture, towers, filling)
        trained = head.module
    stream = open_stream(config, source, architecture, world)
    optim = config.optim
    learnt = nn.ModuleDict({"model": trained, "loss": loss})  # some losses have heads
    optimizer = adamw(learnt, optim.lr, (optim.beta1, optim.beta2), optim.eps, optim.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=config.train.precision == "fp16")
    clipper = build_method(config, "stability")
    decay = config.train.ema
    ema = AveragedModel(trained, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
    total = total_steps(config, len(source))
    training = (loss, gradients, optimizer, scaler, clipper, ema)
    return Parts(architecture, head, source, stream, *training, device, total)


def contrastive_step(
    config: TrainConfig, architecture: Architecture, loss: nn.Module, world: World, device: torch.device
) -> ContrastiveStep:
    """The step of pre-training: both towers are trained, with a mask slot and the teacher that guides it."""
    model = architecture.model.train()
    if config.train.grad_checkpointing:
        model.set_grad_checkpointing(True)
    slot = build_slot(config, model)
    teacher = build_teacher(slot, model)
    if config.train.compile:
        compile_blocks(model)
    views = build_views(config.train, loss, slot, teacher)
    return ContrastiveStep(
        shared(Towers(model, views), world, device),
        GatheredLoss(loss if views is None else ViewLoss(loss, views.count), world),
        slot,
        per_rank_micro_batch(config, world),
        autocast(config, device),
        kernels(config, device),
        world.size,
        teacher,
        views,
    )


def shared(net: nn.Module, world: World, device: torch.device) -> nn.Module:
    """The module with its gradients averaged over ranks."""
    if world.size == 1:
        return net
    return DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)


def build_method(config: TrainConfig, section: str) -> Any:
    """The masker, loss or clipper that a section of the configuration chooses; None where it names none."""
    if not chooses(config, section):
        return None
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
    stream = StreamOptions(
        batch_size=per_rank_batch(config, world),
        seed=config.train.seed,
        rank=world.rank,
        world_size=world.size,
        workers=config.data.workers,
        caption=config.data.caption,
        max_bad_share=config.data.max_bad_share,
        nouns=config.data.nouns,
    )
    reducer = build_reducer(config, source, architecture)
    first, *later = readings(config, architecture, reducer, total_steps(config, len(source)))
    transform = as_kept if isinstance(source, FeatureSource) else first.transform
    return PairStream(source, transform, first.tokenizer, stream, later)


def per_rank_batch(config: TrainConfig, world: World) -> int:
    """Pairs of a step on one rank; ConfigError unless all have as many."""
    if config.train.batch_size % world.size:
        raise ConfigError(
            f"train.batch_size={config.train.batch_size} is the batch of all ranks: "
            f"it must divide by {world.size}"
        )
    return config.train.batch_size // world.size


def per_rank_micro_batch(config: TrainConfig, world: World) -> int | None:
    """Pairs one rank holds with their graph; `train.micro_batch` counts those of all ranks."""
    if config.train.micro_batch is None:
        return None
    return max(1, config.train.micro_batch // world.size)


def total_steps(config: TrainConfig, pairs: int) -> int:
    """Optimiser steps of the run: whole batches in `epochs` passes, at most `max_steps`, at least 1."""
    steps = max(1, math.floor(config.train.epochs * pairs / config.train.batch_size))
    return steps if config.train.max_steps is None else min(steps, config.train.max_steps)
