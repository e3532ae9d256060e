"""What a training run would be: samples, steps, operations, memory and hours, without starting it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from patchclip.config import TrainConfig, chooses, method, validate
from patchclip.contracts import LongContext
from patchclip.data._paths import is_url
from patchclip.engine.assemble import build_method, open_source, total_steps
from patchclip.engine.planning.estimates import (
    GPUS,
    HeadCost,
    Step,
    pair_flops,
    pairs_per_second,
    score_flops,
    step_memory,
)
from patchclip.engine.planning.stretches import Stretch, dense_inputs, walk
from patchclip.engine.preflight import check_methods
from patchclip.engine.ranks import traffic
from patchclip.engine.ranks.exchange import chosen
from patchclip.engine.stages import check_stages
from patchclip.errors import ConfigError, DataError
from patchclip.models.cost import Outline, outline
from patchclip.models.heads import make_head


@dataclass(frozen=True)
class Hours:
    """Estimates for one kind of GPU, each (low, high): GPU hours, hours on all of them, pairs/s of all."""

    gpu: str
    gpu_hours: tuple[float, float]
    hours: tuple[float, float]
    pairs_per_s: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """A run in numbers. Operations count two a multiply-add; memory is GiB on each GPU; hours are estimates.

    `of_dense` is the cost over that of training the towers without mask, stages, shorter text, views or
    teacher. `head` is "" where the towers themselves are trained; `kept_gb` is what `data.features` takes.
    `sent_gb` is what each GPU sends in a step, for the loss and for the weights.
    """

    model: str
    masker: str
    head: str
    parameters: int
    pairs: int
    pairs_from: str
    epochs: int
    samples: int
    steps: int
    batch: int
    gpus: int
    warmup_steps: int
    lr: float
    min_lr: float
    precision: str
    stretches: tuple[Stretch, ...]
    flops_per_pair: float
    flops_per_step: float
    flops_per_run: float
    of_dense: float
    memory: dict[str, float]
    hours: tuple[Hours, ...]
    kept_gb: float
    sent_gb: dict[str, float]


def plan(config: TrainConfig, gpus: int = 8) -> Plan:
    """Reads a configuration and says what training with it would be. Nothing is written or downloaded.

    Args:
        config: of the run.
        gpus: ranks, one a GPU.

    Raises:
        ConfigError: a configuration that cannot train, or one whose data is not on this machine and that
            does not say how many pairs there should be.
        TowerError: a tower whose cost is not known.
    """
    validate(config)
    check_methods(config)
    loop, optim = config.train, config.optim
    pairs, pairs_from = count_pairs(config)
    model = read_model(config)
    check_stages(config, model.image_size, model.image.patch)
    steps = total_steps(config, pairs)
    samples = steps * loop.batch_size
    step = replace(read_step(config, gpus), head=read_head(config, model, pairs / samples))
    stretches, mean, largest = walk(config, model, steps, step)
    dense = pair_flops(model, dense_inputs(model), replace(step, head=None))
    return Plan(
        model=config.model.name,
        masker=config.masking["name"],
        head=config.head["name"] or "",
        parameters=model.parameters,
        pairs=pairs,
        pairs_from=pairs_from,
        epochs=loop.epochs,
        samples=samples,
        steps=steps,
        batch=loop.batch_size,
        gpus=gpus,
        warmup_steps=min(optim.warmup_steps, steps),
        lr=optim.lr,
        min_lr=optim.min_lr,
        precision=loop.precision,
        stretches=stretches,
        flops_per_pair=mean,
        flops_per_step=mean * loop.batch_size,
        flops_per_run=mean * loop.batch_size * steps,
        of_dense=mean / dense,
        memory=step_memory(model, largest, step, bool(largest.guide)),
        hours=tuple(expected_hours(mean, score_part(model, step), samples, gpus, loop.precision)),
        kept_gb=0.0 if config.data.features is None else kept_bytes(model, pairs) / 1e9,
        sent_gb=sent(model, step) if step.head is None else {},
    )


def count_pairs(config: TrainConfig) -> tuple[int, str]:
    """Pairs of the run and where the number comes from: the data if it is on this machine, else the recipe.

    Raises:
        ConfigError: neither is there.
    """
    items = config.data.pairs if isinstance(config.data.pairs, list) else [config.data.pairs]
    far = next((item for item in items if is_url(item) or item.startswith("hf:")), None)
    expected = config.data.expected_pairs
    reason = f"{far} would be downloaded"
    if far is None:
        try:
            return len(open_source(config)), "counted"
        except DataError as error:
            reason = str(error)
    if expected is None:
        raise ConfigError(
            f"without the data a plan needs data.expected_pairs=N, the number of pairs: {reason}"
        )
    if any(item.split(":")[0] == "scenes" for item in items):
        raise DataError(reason)
    return expected, f"data.expected_pairs, as {reason.partition(chr(10))[0]}"


def read_step(config: TrainConfig, gpus: int) -> Step:
    """How the configured step is computed on so many GPUs; ConfigError if they cannot share a batch."""
    loop = config.train
    if gpus < 1 or loop.batch_size % gpus:
        raise ConfigError(
            f"gpus={gpus} must divide train.batch_size={loop.batch_size}: choose another number"
        )
    exchange = "gather" if chooses(config, "head") else chosen(build_method(config, "loss"), config.parallel)
    return Step(
        loop.batch_size,
        gpus,
        loop.micro_batch,
        loop.grad_checkpointing,
        bytes=4 if loop.precision == "fp32" else 2,
        averaged=bool(loop.ema),
        sharded=gpus > 1 and config.parallel.strategy == "fsdp2",
        exchange=exchange,
        tile=config.parallel.tile,
    )


def sent(model: Outline, step: Step) -> dict[str, float]:
    """Gigabytes each GPU sends in a step, see `engine/ranks/traffic.py`; for the loss, those of InfoNCE."""
    batch = traffic.Shared(step.ranks, step.batch // step.ranks, model.width)
    ways = {"gather": traffic.gather, "local": traffic.local, "ring": traffic.ring}
    weights = traffic.sharded if step.sharded else traffic.replicated
    loss = ways[step.exchange](batch) if step.ranks > 1 else 0.0
    return {"loss": loss / 1e9, "weights": weights(model.parameters, step.ranks) / 1e9}


def read_head(config: TrainConfig, model: Outline, once: float) -> HeadCost | None:
    """The head of a run that trains one, in numbers; `once` is pairs over samples."""
    if not chooses(config, "head"):
        return None
    _, name, options = method(config, "head")
    with torch.device("meta"):
        head = make_head(name, options, model.image.width, model.width)
    parameters = sum(p.numel() for p in head.module.parameters())
    return HeadCost(parameters, 1.0 if config.data.features is None else once)


def score_part(model: Outline, step: Step) -> float:
    """Operations of a pair's scores, which a head computes in float32; 0 without one."""
    return 0.0 if step.head is None else score_flops(model, dense_inputs(model).kept, step.batch)


def kept_bytes(model: Outline, pairs: int) -> float:
    """Room of the frozen patches of all images, in float16."""
    return 2.0 * pairs * dense_inputs(model).kept * model.image.width


def read_model(config: TrainConfig) -> Outline:
    """Both towers of the configured model in numbers."""
    model = config.model
    sizes: dict[str, Any] = {"image_size": model.image_size, "overrides": model.overrides}
    found = outline(model.name, context_length=model.context_length, **sizes)
    if not chooses(config, "context"):
        return found
    context: LongContext = build_method(config, "context")
    length = len(context.positions(torch.zeros(found.context_length, 1)))
    return outline(model.name, context_length=length, **sizes)


def expected_hours(flops: float, exact: float, samples: int, gpus: int, precision: str) -> Iterator[Hours]:
    """Low and high estimates for each GPU of `estimates.GPUS`; `exact` of the operations are in float32."""
    for gpu in GPUS:
        slow, fast = pairs_per_second(gpu, flops, precision, exact)
        low, high = samples / fast / 3600, samples / slow / 3600
        yield Hours(gpu.name, (low, high), (low / gpus, high / gpus), (slow * gpus, fast * gpus))


def describe(found: Plan) -> Iterator[str]:
    """A plan as lines of text."""
    share = found.warmup_steps / found.steps
    trained = f"head {found.head} on frozen towers" if found.head else f"masking {found.masker}"
    yield f"model      {found.model}, {found.parameters / 1e6:.1f} M parameters, {trained}"
    yield f"data       {found.pairs:,} pairs ({found.pairs_from})"
    yield (
        f"samples    {found.samples:,} in {found.steps:,} steps of {found.batch:,} pairs "
        f"({found.batch // found.gpus:,} a GPU), {found.epochs} epochs"
    )
    yield (
        f"rate       {found.lr:g} after {found.warmup_steps:,} steps of warm-up ({share:.1%}), "
        f"cosine to {found.min_lr:g}"
    )
    for part in found.stretches:
        least, mean, most = part.kept
        kept = f"{least}" if least == most else f"{least} to {most} (mean {mean:.1f})"
        yield (
            f"{part.start:4.0%} - {part.stop:4.0%}  {part.image_size} px, {kept} of {part.patches} patches, "
            f"{part.words} text tokens: {part.flops / 1e9:.1f} GFLOP a pair"
        )
    yield (
        f"compute    {found.flops_per_pair / 1e9:.1f} GFLOP a pair, {found.flops_per_step / 1e12:,.1f} TFLOP "
        f"a step, {found.flops_per_run / 1e18:,.2f} EFLOP in all: {found.of_dense:.3f} of dense"
    )
    parts = ", ".join(f"{name} {value:.2f}" for name, value in found.memory.items() if name != "total")
    yield f"memory     estimate: {found.memory['total']:.1f} GiB on each GPU ({parts})"
    if found.sent_gb and found.gpus > 1:
        loss, weights = (1e3 * value for value in found.sent_gb.values())
        yield f"traffic    {loss:,.0f} MB for the loss, {weights:,.0f} MB for weights sent by each GPU a step"
    if found.kept_gb:
        yield f"room       {found.kept_gb:,.0f} GB for the kept patches (data.features)"
    for hours in found.hours:
        low, high = hours.gpu_hours
        yield (
            f"{hours.gpu:<10} estimate: {low:,.0f} to {high:,.0f} GPU hours, {hours.hours[0]:,.0f} to "
            f"{hours.hours[1]:,.0f} hours on {found.gpus}, {hours.pairs_per_s[0]:,.0f} to "
            f"{hours.pairs_per_s[1]:,.0f} pairs/s to load"
        )
