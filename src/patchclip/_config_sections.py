# ruff: noqa: RUF009 (`_key` and `_method` are dataclasses.field with a line of text)
"""The sections of a run's configuration: every key, its default and what it means."""

from dataclasses import dataclass, field
from typing import Any


def _key(default: Any, text: str) -> Any:
    """One key: its default value, or the type that makes it, and the line printed by `--help`."""
    if isinstance(default, type):
        return field(default_factory=default, metadata={"text": text})
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"text": text})
    return field(default=default, metadata={"text": text})


def _method(key: str, name: str | None, text: str) -> Any:
    return field(default_factory=lambda: {key: name}, metadata={"text": text})


@dataclass
class DataConfig:
    """Where image-text pairs come from."""

    pairs: Any = _key("samples", "'samples', tar shards, csv/tsv/parquet, a folder, 'hf:NAME'; or a list")
    caption: str = _key("random", "which caption of an image: random (one an epoch, seeded) or first")
    image_column: str = _key("image", "column of the image or its path (csv, tsv, parquet, hf)")
    caption_column: str = _key("caption", "column of the caption")
    separator: str | None = _key(None, "cells of a csv: null takes ',' in .csv and a tab in .tsv")
    caption_separator: str | None = _key(None, "splits one caption cell into several captions")
    split: str = _key("train", "split of a Hugging Face data set")
    nouns: float = _key(0.0, "share of the captions that are a noun of the caption in a prompt (PACL)")
    features: str | None = _key(None, "folder that keeps the frozen patches of every image, for a head")
    negatives: str | None = _key(None, "makes false captions for losses that learn of them: hard")
    text_tokens: int | None = _key(None, "tokens a caption is cut to in training; null takes the context")
    augment: str = _key("open_clip", "image augmentation: open_clip, light or none")
    workers: int = _key(0, "loader processes a rank; 0 loads in the training process")
    prefetch: int = _key(2, "batches that each loader process holds ready")
    decode: str = _key("reduced", "JPEGs: reduced decodes no more than the crop needs, full every pixel")
    max_bad_share: float = _key(0.05, "share of unreadable samples above which training stops")
    expected_pairs: int | None = _key(None, "pairs there should be; used by --dry-run where the data is not")


@dataclass
class ModelConfig:
    """The CLIP that is trained."""

    name: str = _key("ViT-Ti-16", "an open_clip model name, or one of `patchclip list models`")
    pretrained: str | None = _key(None, "weights to start from: a path or an open_clip tag")
    image_size: int | None = _key(None, "pixels a side; null takes the model's own")
    context_length: int | None = _key(None, "text tokens; null takes the model's own")
    overrides: dict[str, Any] = _key(dict, "merged into open_clip's model config (vision_cfg, text_cfg, ...)")


@dataclass
class OptimConfig:
    """AdamW with linear warm-up and cosine decay."""

    lr: float = _key(1e-3, "peak learning rate")
    beta1: float = _key(0.9, "decay of the gradient's mean")
    beta2: float = _key(0.98, "decay of the gradient's square")
    eps: float = _key(1e-6, "AdamW's epsilon")
    weight_decay: float = _key(0.2, "decay of weight matrices; gains, biases and the temperature have none")
    warmup_steps: int = _key(500, "steps of linear warm-up")
    min_lr: float = _key(0.0, "learning rate at the end of the cosine")


@dataclass
class StageConfig:
    """A stretch of training with sizes of its own: small images and short captions first (CLIPA)."""

    until: float = _key(1.0, "share of the steps at which the stage ends; the last one ends at 1")
    image_size: int | None = _key(None, "pixels a side, at most the model's; null takes the model's")
    text_tokens: int | None = _key(None, "tokens of a caption; null takes data.text_tokens")


@dataclass
class LoopConfig:
    """The training loop."""

    epochs: int = _key(30, "passes over the pairs")
    max_steps: int | None = _key(None, "ends training earlier, after this many optimizer steps")
    batch_size: int = _key(256, "pairs a step over all ranks: the contrastive batch")
    micro_batch: int | None = _key(None, "pairs in memory at once; the loss stays that of the whole batch")
    precision: str = _key("auto", "fp32, bf16, fp16, or auto: bf16 where the device has it, else fp32")
    seed: int = _key(0, "seed of the weights, the data order, the captions and the masks")
    unmasked_share: float = _key(0.0, "last share of the steps trained without a mask")
    stages: list[StageConfig] = _key(list, "stretches [{until, image_size, text_tokens}, ...] of training")
    views: int = _key(1, "random crops of each image that a step trains on; 1: the image itself")
    view_scale: list[float] = field(
        default_factory=lambda: [0.5, 1.0],
        metadata={"text": "smallest and largest share of the image's area that a view shows"},
    )
    ema: float = _key(0.0, "decay of averaged weights; 0 is off")
    grad_checkpointing: bool = _key(False, "recompute activations to save memory")
    compile: bool = _key(False, "compile the blocks of both towers (torch.compile, one graph a length)")
    log_every: int = _key(10, "steps between two lines of metrics.jsonl")
    device: str = _key("auto", "auto, cpu, cuda or cuda:N")
    threads: int | None = _key(None, "CPU threads; null leaves torch's choice")
    max_bad_steps: int = _key(20, "non-finite steps in a row after which training stops")


@dataclass
class ParallelConfig:
    """How the ranks of a run share weights, embeddings and the table of logits."""

    strategy: str = _key("ddp", "ddp: each rank holds the model; fsdp2: weights and optimiser in shards")
    exchange: str = _key("auto", "of the loss: gather, local or ring; auto takes local where the loss can")
    tile: int | None = _key(None, "rows and columns of logits computed at once; null computes them all")
    patience: int = _key(30, "minutes that a rank waits for the others before the run fails")


@dataclass
class GuardConfig:
    """What is done about steps whose loss jumps; steps that are not finite are skipped anyway."""

    spikes: str = _key("off", "off, skip (the update is left out), or rollback (to the last good checkpoint)")
    threshold: float = _key(6.0, "standard deviations above the recent mean that make a loss a spike")
    memory: int = _key(100, "steps that the recent mean looks back")
    patience: int = _key(5, "bad steps in a row that roll a run back")
    max_rollbacks: int = _key(3, "rollbacks after which training stops")


@dataclass
class EvalConfig:
    """Evaluation during and after training."""

    root: str = _key("samples", "folder of data sets in clip_benchmark's layout, or 'samples'")
    datasets: list[str] | None = _key(None, "data sets under the root; null takes all, [] none")
    suites: list[str] = _key(["classification", "retrieval"], "suites, as patchclip list suites names them")
    every: int = _key(0, "steps between evaluations; 0 evaluates only at the end")
    batch_size: int | None = _key(None, "images or texts encoded at once; null finds it by the memory")


@dataclass
class CheckpointConfig:
    """When training saves."""

    every: int = _key(200, "steps between checkpoints")
    keep: int = _key(2, "checkpoints kept; older ones are deleted")


@dataclass
class TrackingConfig:
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = _key(True, "write TensorBoard events into the run folder")
    wandb: str | None = _key(None, "Weights & Biases project; needs patchclip[wandb]")


@dataclass
class TrainConfig:
    """Everything that decides a training run."""

    data: DataConfig = _key(DataConfig, "")
    model: ModelConfig = _key(ModelConfig, "")
    masking: dict[str, Any] = _method(
        "name", "pgs", "masker; options beside it: see `patchclip show masking/NAME`"
    )
    text: dict[str, Any] = _method(
        "name", "truncate", "what shortens captions; options beside it: see `patchclip show reduction/NAME`"
    )
    loss: dict[str, Any] = _method(
        "name", "clip", "loss; options beside it: see `patchclip show losses/NAME`"
    )
    stability: dict[str, Any] = _method(
        "clip",
        "none",
        "gradient clipper; momentum_reset=STEPS and its options (`patchclip show stability/NAME`)",
    )
    head: dict[str, Any] = _method(
        "name", None, "head trained on frozen towers; options beside it: see `patchclip show heads/NAME`"
    )
    context: dict[str, Any] = _method(
        "name", None, "what reads longer captions; options beside it: see `patchclip show context/NAME`"
    )
    optim: OptimConfig = _key(OptimConfig, "")
    train: LoopConfig = _key(LoopConfig, "")
    parallel: ParallelConfig = _key(ParallelConfig, "")
    guard: GuardConfig = _key(GuardConfig, "")
    eval: EvalConfig = _key(EvalConfig, "")
    checkpoint: CheckpointConfig = _key(CheckpointConfig, "")
    tracking: TrackingConfig = _key(TrackingConfig, "")
    output: str = _key("runs/train", "run folder")


BESIDE: dict[str, tuple[str, ...]] = {"stability": ("momentum_reset",)}
"""Keys of a section that chooses a method which are the section's own, no options of the method."""
