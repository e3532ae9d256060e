"""Typed configuration of a training run: read, checked, written.

A run is a `TrainConfig`; its keys stand in `_config_sections.py` (`patchclip train --help` prints them), how
files and overrides become one in `_config_file.py`, the ranges of the values in `_config_rules.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from patchclip import _config_base, _config_file, registry
from patchclip._config_rules import check_values, flatten
from patchclip._config_sections import (
    BESIDE,
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    GuardConfig,
    LoopConfig,
    ModelConfig,
    OptimConfig,
    ParallelConfig,
    StageConfig,
    TrackingConfig,
    TrainConfig,
)
from patchclip.errors import ConfigError

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "EvalConfig",
    "GuardConfig",
    "LoopConfig",
    "ModelConfig",
    "OptimConfig",
    "ParallelConfig",
    "StageConfig",
    "TrackingConfig",
    "TrainConfig",
    "changed_keys",
    "chooses",
    "config_from_dict",
    "config_to_dict",
    "load_config",
    "load_stored",
    "method",
    "save_config",
    "validate",
]

METHODS: dict[str, tuple[str, str]] = {
    "masking": ("masking", "name"),
    "text": ("reduction", "name"),
    "loss": ("losses", "name"),
    "stability": ("stability", "clip"),
    "head": ("heads", "name"),
    "context": ("context", "name"),
}
"""Section of the configuration -> the registry family it chooses from, and the key that holds the name."""

MAY_BE_NONE = ("head", "context")
"""Sections that need not choose a method."""

SHORT: dict[str, str] = {
    "model": "model.name",
    "pretrained": "model.pretrained",
    "data": "data.pairs",
    **{section: f"{section}.{key}" for section, (_, key) in METHODS.items()},
}
"""What `model=ViT-B-16` and its like on the command line stand for."""

UNSET = "unset"

EARLIER: dict[str, dict[str, Any]] = {"data": {"decode": "full"}}
"""What versions did that had no key for it, where the default is another."""


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


def load_stored(path: str | Path) -> TrainConfig:
    """The configuration that a run wrote down when it started.

    A key that its version did not know yet has the value of `EARLIER`, as that version computed.

    Raises:
        ConfigError: as `load_config`.
    """
    config = load_config(path)
    written, _ = _config_file.read(path)
    for section, values in EARLIER.items():
        for key in values.keys() - (written.get(section) or {}).keys():
            setattr(getattr(config, section), key, values[key])
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
        ConfigError: options of a method that is not named.
    """
    values = getattr(config, section)
    if section not in MAY_BE_NONE or values.get("name") is not None:
        return True
    if len(values) > 1:
        options, known = ", ".join(set(values) - {"name"}), ", ".join(registry.names(METHODS[section][0]))
        raise ConfigError(f"{section}.name=null has no option {options}: name one ({section}.name={known})")
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
    beside = (key, *BESIDE.get(section, ()))
    return family, name, {option: value for option, value in chosen.items() if option not in beside}


def changed_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ between two configurations given as dicts, in the order of `a`.

    Returns:
        Key -> its values in `a` and `b`; "unset" where it is not there.
    """
    before, after = dict(flatten(a)), dict(flatten(b))
    both = {key: (before.get(key, UNSET), after.get(key, UNSET)) for key in {**before, **after}}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _spelt_out(override: str) -> str:
    """`model=ViT-B-16` as `model.name=ViT-B-16`; a section given as a mapping stays one."""
    key, sign, value = override.partition("=")
    return f"{SHORT[key]}={value}" if key in SHORT and sign and not value.startswith("{") else override


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
