"""Methods with options as the command line writes them: `random,pgs:protect=0.2;mask_ratio=0.5`."""

import re
from typing import Any

import yaml

from patchclip import registry
from patchclip.errors import ConfigError


def split(text: str) -> list[str]:
    """The parts of a comma list; commas within brackets do not divide."""
    return [part.strip() for part in re.split(r",(?![^\[(]*[\])])", text) if part.strip()]


def name_and_options(part: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of NAME or NAME:key=value;key=value; values are YAML.

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
            options[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{part!r} holds a value that is not YAML: {value!r}") from error
    return name.strip(), options


def build(family: str, part: str) -> Any:
    """The method of a family that NAME or NAME:key=value;key=value describes.

    Args:
        family: a key of `registry.FAMILIES`.
        part: for instance "naclip:std=5".

    Raises:
        ConfigError: an unknown name, or an option that the method refuses.
    """
    name, options = name_and_options(part)
    return registry.build(family, name, **options)
