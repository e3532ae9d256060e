"""Builds the parts of a training run from its configuration."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from patchclip import registry
from patchclip.config import TrainConfig, chooses, method
from patchclip.data.companions import Companion
from patchclip.data.features import FeatureSource, Filling, as_kept
from patchclip.data.pairs import DECODERS, Columns, PairSource, open_pairs
from patchclip.data.stream import PairStream, StreamOptions
from patchclip.engine.align import AlignmentStep, PairwiseHead
from patchclip.engine.average import HeldAverage
from patchclip.engine.captions import build_reducer
from patchclip.engine.extras import build_extras, companions_of, made_whole, trait, with_companions
from patchclip.engine.head import build_head, frozen_towers, kept_features
from patchclip.engine.optim import adamw
from patchclip.engine.parts import Gradients, Parts
from patchclip.engine.precision import autocast, kernels
from patchclip.engine.ranks.distributed import World, wait
from patchclip.engine.ranks.exchange import contrastive, pairwise
from patchclip.engine.ranks.sharding import ShardedScaler, outline, shard, shared
from patchclip.engine.safety.finite import check_weights
from patchclip.engine.safety.guard import Guard
from patchclip.engine.stages import readings
from patchclip.engine.step import ContrastiveStep, Towers
from patchclip.engine.teacher import build_teacher
from patchclip.engine.views import ViewLoss, build_views, with_heads
from patchclip.errors import ConfigError
from patchclip.models.architectures import Architecture, create
from patchclip.models.blocks import compile_blocks
from patchclip.models.long_context import hold_positions, stretched
from patchclip.models.masked import MaskSlot, attach, hash_seed

OnFilled = Callable[[int, int], object]


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
    loss = made_whole(build_method(config, "loss"))
    architecture = build_architecture(config, loss)
    architecture.model.to(device)
    head = build_head(config, architecture, device)
    source = open_source(config)
    trained = architecture.model if head is None else head.module
    sharded = world.size > 1 and config.parallel.strategy == "fsdp2"
    empty = outline(trained) if sharded else None
    ema = averages(config, trained, world, device)
    if head is None:
        loss = with_heads(loss, architecture.model_cfg["embed_dim"], device)
        gradients: Gradients = contrastive_step(config, architecture, loss, world, device)
    else:
        towers = frozen_towers(architecture, autocast(config, device), per_rank_micro_batch(config, world))
        gradients = AlignmentStep(
            shared(PairwiseHead(head.module, towers.size), world, device, config.parallel.strategy),
            *(towers, loss, world, pairwise(loss, config.parallel, world)),
        )
        filling = Filling(
            workers=config.data.workers,
            rank=world.rank,
            world_size=world.size,
            wait=partial(wait, world),
            on_progress=on_filled,
        )
        source = kept_features(config, source, architecture, towers, filling)
    stream = open_stream(config, source, architecture, world, tuple(companions_of(config, loss, source)))
    optimizer = build_optimizer(config, architecture, {"model": trained, "loss": loss})
    fp16 = config.train.precision == "fp16"
    scaler = (ShardedScaler if sharded else torch.amp.GradScaler)(device.type, enabled=fp16)
    clipper = build_method(config, "stability")
    total = total_steps(config, len(source))
    training = (loss, gradients, optimizer, scaler, clipper, ema)
    guard = None if config.guard.spikes == "off" else Guard(config.guard, device, world)
    return Parts(architecture, head, source, stream, *training, device, total, guard, world, empty)


def build_optimizer(
    config: TrainConfig, architecture: Architecture, learnt: dict[str, nn.Module]
) -> torch.optim.Optimizer:
    """AdamW of what is trained, heads of the loss among it; kept positions stay as they are."""
    optim = config.optim
    betas = (optim.beta1, optim.beta2)
    optimizer = adamw(nn.ModuleDict(learnt), optim.lr, betas, optim.eps, optim.weight_decay)
    if chooses(config, "context"):
        hold_positions(architecture.model, build_method(config, "context"), optimizer)
    return optimizer


def averages(
    config: TrainConfig, trained: nn.Module, world: World, device: torch.device
) -> HeldAverage | None:
    """Averaged weights of what is trained, if `train.ema` asks for them; in shares under FSDP2."""
    decay = config.train.ema
    if not decay:
        return None
    ema = HeldAverage(trained, decay)
    if world.size > 1 and config.parallel.strategy == "fsdp2":
        shard(ema.module, world, device)
    return ema


def contrastive_step(
    config: TrainConfig, architecture: Architecture, loss: nn.Module, world: World, device: torch.device
) -> ContrastiveStep:
    """The step of pre-training: both towers are trained, with a mask slot and the teacher that guides it."""
    model = architecture.model.train()
    made = autocast(config, device), per_rank_micro_batch(config, world)
    extras = build_extras(config, architecture, loss, device, *made)
    if config.train.grad_checkpointing:
        model.set_grad_checkpointing(True)
    slot = build_slot(config, model)
    teacher = build_teacher(slot, model)
    if config.train.compile:
        compile_blocks(model)
    views = build_views(config.train, loss, slot, teacher)
    unit_length = bool(trait(loss, "unit_length", True))
    own = with_companions(loss)
    return ContrastiveStep(
        shared(Towers(model, views, unit_length), world, device, config.parallel.strategy),
        contrastive(own if views is None else ViewLoss(own, views.count), config.parallel, world),
        slot,
        per_rank_micro_batch(config, world),
        autocast(config, device),
        kernels(config, device),
        world.size,
        teacher,
        views,
        extras,
    )


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
    initial = trait(loss, "initial_logits")
    if initial is not None:
        scale, bias = initial
        overrides = {"init_logit_scale": math.log(scale), "init_logit_bias": bias, **overrides}
    made = create(
        model.name,
        pretrained=model.pretrained,
        image_size=model.image_size,
        context_length=model.context_length,
        overrides=overrides,
    )
    if model.pretrained is not None:
        check_weights(made.model.state_dict().items(), f"model.pretrained={model.pretrained}")
    return longer(config, made) if chooses(config, "context") else made


def longer(config: TrainConfig, architecture: Architecture) -> Architecture:
    """The architecture with a longer context; ConfigError for what only reads texts in another way."""
    found = stretched(architecture, build_method(config, "context"))
    if found is architecture:
        name = config.context["name"]
        raise ConfigError(
            f"context.name={name} changes nothing that is trained: unset it, and evaluate with "
            f"--context {name}"
        )
    return found


def build_slot(config: TrainConfig, model: nn.Module) -> MaskSlot | None:
    """The mask slot; dense training at one size needs none, so that towers without tokens train too."""
    masker = build_method(config, "masking")
    resized = any(stage.image_size is not None for stage in config.train.stages)
    return attach(model, masker) if resized or config.masking["name"] != "none" else None


def open_source(config: TrainConfig) -> PairSource:
    """The pairs that `data.pairs` names; images encoded once, for `data.features`, are decoded in full."""
    data = config.data
    decode = DECODERS["full" if data.features is not None else data.decode]
    columns = Columns(data.image_column, data.caption_column, data.separator, data.caption_separator)
    return open_pairs(data.pairs, columns=columns, split=data.split, decode=decode)


def open_stream(
    config: TrainConfig,
    source: PairSource,
    architecture: Architecture,
    world: World,
    companions: tuple[Companion, ...] = (),
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
        prefetch=config.data.prefetch,
        companions=companions,
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
