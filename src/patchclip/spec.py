"""Methods with options as the command line writes them: `random,pgs:protect=0.2;mask_ratio=0.5`."""

import re
import typing
from typing import Any

import yaml

from patchclip import registry
from patchclip.errors import ConfigError


def split(text: str) -> list[str]:
    """The parts of a comma list; commas within brackets do not divide."""
    return [part.strip() for part in re.split(r",(?![^\[(]*[\])])", text) if part.strip()]


def name_and_options(part: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of NAME or NAME:key=value;key=value; values are YAML, and "(1, 2)" is [1, 2].

    Raises:
        ConfigError: an option without "=", or a value that is not YAML.
    """
    name, _, rest = part.partition(":")
    options: dict[str, Any] = {}
    for setting in filter(None, (piece.strip() for piece in rest.split(";"))):
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"{part!r} must read NAME or NAME:key=value;key=value, as pgs:protect=0.2")
        try:
            options[key.strip()] = _number(yaml.safe_load(re.sub(r"^\s*\((.*)\)\s*$", r"[\1]", value)))
        except yaml.YAMLError as error:
            raise ConfigError(f"{part!r} holds a value that is not YAML: {value!r}") from error
    return name.strip(), options


def _number(value: Any) -> Any:
    """1e-4 as a number: YAML 1.1 wants a point in it, people and Python do not. Lists likewise."""
    if isinstance(value, list):
        return [_number(each) for each in value]
    wanted = isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value)
    return float(value) if wanted else value


def inner(part: str) -> str:
    """A method that is itself an option's value, its own options joined by "+", as `build` takes it.

    Args:
        part: for instance "naclip:std=5+reduced=false", which gives "naclip:std=5;reduced=false".
    """
    return part.replace("+", ";")


def build(family: str, part: str) -> Any:
    """The method of a family that NAME or NAME:key=value;key=value describes.

    Args:
        family: a key of `registry.FAMILIES`.
        part: for instance "naclip:std=5".

    Raises:
        ConfigError: an unknown name, or an option that the method refuses.
    """
    name, options = name_and_options(part)
    _check_lists(family, name, options)
    return registry.build(family, name, **options)


def _check_lists(family: str, name: str, options: dict[str, Any]) -> None:
    """Raises ConfigError for what is no list of plain values where the method takes a tuple of them."""
    for option, parameter in registry.options(family, name).items():
        kinds = tuple(kind for kind in typing.get_args(parameter.annotation) if kind is not Ellipsis)
        if option not in options or typing.get_origin(parameter.annotation) is not tuple:
            continue
        value = options[option]
        if not isinstance(value, list) or not all(type(each) in kinds for each in value):
            wanted = " or ".join(kind.__name__ for kind in dict.fromkeys(kinds))
            raise ConfigError(
                f"{family}/{name}: {option}={value!r} must be a list of {wanted}: write {option}=[1,2]"
            )
