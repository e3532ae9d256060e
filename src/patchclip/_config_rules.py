"""Ranges and choices of the configuration's values, one line a key."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from patchclip.errors import ConfigError

_Rule = tuple[str, Callable[[Any], bool], str]


def _choice(*values: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in values, f"must be one of {', '.join(values)}"


def _range(low: float, high: float = math.inf, *, above: bool = False) -> tuple[Callable[[Any], bool], str]:
    """low <= value <= high for whole numbers and shares; `above` leaves both ends out; null passes."""
    if above:
        text = f"must be above {low:g}" + ("" if high == math.inf else f" and below {high:g}")
        return lambda value: value is None or low < value < high, text
    text = f"must be at least {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
    return lambda value: value is None or (low <= value <= high and value != math.inf), text


def _decay() -> tuple[Callable[[Any], bool], str]:
    return lambda value: 0 <= value < 1, "must be in [0, 1)"


def _pairs(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else [value]
    return bool(items) and all(isinstance(item, str) and item for item in items)


def _rising_shares(value: Any) -> bool:
    return len(value) == 2 and 0 < value[0] <= value[1] <= 1


def _character(value: Any) -> bool:
    return value is None or (len(value) == 1 and value not in '\r\n"')


_RULES: tuple[_Rule, ...] = (
    ("data.pairs", _pairs, "must be a path, pattern or name, or a list of them"),
    ("data.caption", *_choice("random", "first")),
    ("data.nouns", *_range(0, 1)),
    ("data.features", lambda value: value != "", "must not be empty: it names a folder"),
    ("data.negatives", lambda value: value != "", "must not be empty: null makes no false captions"),
    ("data.text_tokens", *_range(2)),
    ("data.augment", *_choice("open_clip", "light", "none")),
    ("data.workers", *_range(0)),
    ("data.prefetch", *_range(1)),
    ("data.decode", *_choice("reduced", "full")),
    ("data.max_bad_share", *_range(0, 1)),
    ("data.expected_pairs", *_range(1)),
    ("data.separator", _character, "must be one character, it parts cells; see data.caption_separator"),
    ("data.caption_separator", lambda value: value != "", "must not be empty: null means one caption a cell"),
    ("model.name", bool, "must not be empty"),
    ("model.image_size", *_range(1)),
    ("model.context_length", *_range(1)),
    ("optim.lr", *_range(0, above=True)),
    ("optim.beta1", *_decay()),
    ("optim.beta2", *_decay()),
    ("optim.eps", *_range(0, above=True)),
    ("optim.weight_decay", *_range(0)),
    ("optim.warmup_steps", *_range(0)),
    ("optim.min_lr", *_range(0)),
    ("train.epochs", *_range(1)),
    ("train.max_steps", *_range(1)),
    ("train.batch_size", *_range(1)),
    ("train.micro_batch", *_range(1)),
    ("train.precision", *_choice("auto", "fp32", "bf16", "fp16")),
    ("train.seed", *_range(0, 2**63 - 1)),
    ("train.unmasked_share", *_decay()),
    ("train.views", *_range(1)),
    ("train.view_scale", _rising_shares, "must be two shares of the area, [smallest, largest], in (0, 1]"),
    ("train.ema", *_decay()),
    ("train.log_every", *_range(1)),
    ("train.device", bool, "must not be empty"),
    ("train.threads", *_range(1)),
    ("train.max_bad_steps", *_range(0)),
    ("parallel.strategy", *_choice("ddp", "fsdp2")),
    ("parallel.exchange", *_choice("auto", "gather", "local", "ring")),
    ("parallel.tile", *_range(1)),
    ("parallel.patience", *_range(1)),
    ("guard.spikes", *_choice("off", "skip", "rollback")),
    ("guard.threshold", *_range(0, above=True)),
    ("guard.memory", *_range(2)),
    ("guard.patience", *_range(1)),
    ("guard.max_rollbacks", *_range(0)),
    ("eval.root", bool, "must not be empty"),
    ("eval.suites", bool, "must name at least one suite; eval.datasets=[] evaluates nothing"),
    ("eval.every", *_range(0)),
    ("eval.batch_size", *_range(1)),
    ("checkpoint.every", *_range(1)),
    ("checkpoint.keep", *_range(1)),
    ("output", bool, "must not be empty: it names the run folder"),
)


def check_values(values: Mapping[str, Any]) -> None:
    """Raise ConfigError on the first value of a complete configuration that breaks a rule."""
    for path, holds, rule in _RULES:
        value: Any = values
        for part in path.split("."):
            value = value[part]
        if not holds(value):
            raise ConfigError(f"{path}={value!r} {rule}")
    batch, micro = values["train"]["batch_size"], values["train"]["micro_batch"]
    if micro is not None and batch % micro:
        raise ConfigError(f"train.micro_batch={micro} must divide train.batch_size={batch}")
    check_stages(values["train"]["stages"])
    check_reset(values["stability"].get("momentum_reset", 0))
    low, peak = values["optim"]["min_lr"], values["optim"]["lr"]
    if low > peak:
        raise ConfigError(f"optim.min_lr={low} must not exceed optim.lr={peak}")


def check_stages(stages: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigError unless the ends of the stages rise to 1 and their sizes are positive."""
    ends = [stage["until"] for stage in stages]
    if ends and (ends != sorted(set(ends)) or ends[0] <= 0 or ends[-1] != 1):
        raise ConfigError(f"train.stages: until={ends} must rise from above 0 to 1: the last stage ends at 1")
    for stage in stages:
        for key in ("image_size", "text_tokens"):
            if stage[key] is not None and stage[key] < 1:
                raise ConfigError(f"train.stages: {key}={stage[key]} must be at least 1, or null")


def check_reset(steps: Any) -> None:
    """Raise ConfigError unless the steps between two resets of the momentum are a whole number."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ConfigError(
            f"stability.momentum_reset={steps!r} must be a whole number of steps: 0 never resets"
        )


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values, in order; a dict is walked into, a list is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
