# ruff: noqa: RUF009 (`_key` and `_method` are dataclasses.field with a line of text)
"""Typed configuration of a training run: every key, its default and what it means.

A run is a `TrainConfig`; `patchclip train --help` prints the fields below. How files and overrides become one
stands in `_config_file.py`, the ranges of the values in `_config_rules.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patchclip import _config_base, _config_file, registry
from patchclip._config_rules import check_values, flatten
from patchclip.errors import ConfigError


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
    text_tokens: int | None = _key(None, "tokens a caption is cut to in training; null takes the context")
    augment: str = _key("open_clip", "image augmentation: open_clip, light or none")
    workers: int = _key(0, "loader processes a rank; 0 loads in the training process")
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
        "clip", "none", "gradient clipper; options beside it: see `patchclip show stability/NAME`"
    )
    head: dict[str, Any] = _method(
        "name", None, "head trained on frozen towers; options beside it: see `patchclip show heads/NAME`"
    )
    optim: OptimConfig = _key(OptimConfig, "")
    train: LoopConfig = _key(LoopConfig, "")
    eval: EvalConfig = _key(EvalConfig, "")
    checkpoint: CheckpointConfig = _key(CheckpointConfig, "")
    tracking: TrackingConfig = _key(TrackingConfig, "")
    output: str = _key("runs/train", "run folder")


METHODS: dict[str, tuple[str, str]] = {
    "masking": ("masking", "name"),
    "text": ("reduction", "name"),
    "loss": ("losses", "name"),
    "stability": ("stability", "clip"),
    "head": ("heads", "name"),
}
"""Section of the configuration -> the registry family it chooses from, and the key that holds the name."""

SHORT: dict[str, str] = {
    "model": "model.name",
    "pretrained": "model.pretrained",
    "data": "data.pairs",
    **{section: f"{section}.{key}" for section, (_, key) in METHODS.items()},
}
"""What `model=ViT-B-16` and its like on the command line stand for."""


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a run's configuration: defaults, then the file and what it builds on, then the overrides.

    A file may start with `base: NAME_OR_PATH`, a shipped recipe or a YAML file beside it: it is merged over
    its base, and a section that names another method than the base's starts empty.

    Where an override chooses another method (`masking.name=random`), options of the file that the new method
    does not know are dropped with a warning; unknown options among the overrides are errors.

    Args:
        path: a YAML file, the name of a shipped recipe (`demo`), or None for the defaults.
        overrides: `key.path=value` strings; values are YAML (`masking.mask_ratio=[0.3,0.5]`). The keys of
            `SHORT` may stand alone: `model=ViT-B-16`.

    Returns:
        A validated configuration.

    Raises:
        ConfigError: if a file, key, name, type or value is wrong; the message says where and what would do.
    """
    defaults = config_to_dict(TrainConfig())
    names = {section: (key, str(defaults[section][key])) for section, (_, key) in METHODS.items()}
    tree = {} if path is None else _config_base.read(path, TrainConfig, names)
    given = _config_file.parse_overrides([_spelt_out(each) for each in overrides], TrainConfig)
    for section, (family, _) in METHODS.items():
        _config_file.drop_stale(tree, given, section, (family, *names[section]))
    config = _config_file.typed(TrainConfig, tree, given)
    validate(config)
    return config


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """The configuration that `config_to_dict` gave, validated; missing keys take their defaults."""
    tree = dict(values)
    _config_file.check_keys(tree, TrainConfig)
    config = _config_file.typed(TrainConfig, tree)
    validate(config)
    return config


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """A configuration as plain nested dicts and lists."""
    return _plain(dataclasses.asdict(config))


def save_config(config: TrainConfig, path: str | Path) -> None:
    """Write a configuration as YAML that `load_config` reads back; the file appears whole or not at all."""
    _config_file.write(config_to_dict(config), Path(path))


def validate(config: TrainConfig) -> None:
    """Hold a configuration against every rule of types, ranges and methods.

    Raises:
        ConfigError: if one is broken; the message names the key, the value and the rule.
    """
    values = config_to_dict(config)
    _config_file.check_keys(values, TrainConfig)
    checked = config_to_dict(_config_file.typed(TrainConfig, values))
    check_values(checked)
    for section in METHODS:
        if chooses(config, section):
            family, name, given = method(config, section)
            registry.check(family, name, given, beside=METHODS[section][1])


def chooses(config: TrainConfig, section: str) -> bool:
    """Whether a section names a method at all; `head.name` is null where the towers themselves are trained.

    Raises:
        ConfigError: options of a head that is not named.
    """
    values = getattr(config, section)
    if section != "head" or values.get("name") is not None:
        return True
    if len(values) > 1:
        options, known = ", ".join(set(values) - {"name"}), ", ".join(registry.names("heads"))
        raise ConfigError(f"head.name=null has no option {options}: name the head (head.name={known})")
    return False


def method(config: TrainConfig, section: str) -> tuple[str, str, dict[str, Any]]:
    """Family, name and constructor options that a section chooses: the arguments of `registry.build`.

    Args:
        config: the run.
        section: a key of `METHODS`, as masking or loss, for which `chooses` holds.
    """
    family, key = METHODS[section]
    chosen = getattr(config, section)
    name = chosen.get(key)
    if not isinstance(name, str):
        known = registry.names(family)
        raise ConfigError(f"{section}.{key}={name!r} must be a name; Known: {', '.join(known)}")
    return family, name, {option: value for option, value in chosen.items() if option != key}


def changed_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Dotted keys whose values differ between two configurations given as dicts, in the order of `a`."""
    before, after = dict(flatten(a)), dict(flatten(b))
    gone = object()
    return [key for key in {**before, **after} if before.get(key, gone) != after.get(key, gone)]


def _spelt_out(override: str) -> str:
    """`model=ViT-B-16` as `model.name=ViT-B-16`; a section given as a mapping stays one."""
    key, sign, value = override.partition("=")
    return f"{SHORT[key]}={value}" if key in SHORT and sign and not value.startswith("{") else override


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
