"""Configuration files on top of others: `base: NAME_OR_PATH` is read first, the file over it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchclip import _config_file, registry
from patchclip.errors import ConfigError

_SUFFIXES = (".yaml", ".yml")


def read(path: str | Path, schema: type, methods: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """The mapping in a YAML file or shipped recipe with everything it builds on, without `base`.

    Args:
        path: the file, or the name of a shipped recipe.
        schema: the dataclass that says which keys there are.
        methods: section that chooses a method -> the key that holds its name, and the default name.

    Raises:
        ConfigError: a file that is missing, damaged or has an unknown key, or bases that form a circle; the
            message names the files from the first on.
    """
    tree, origin = _config_file.read(path)
    return _over_base(tree, (origin,), schema, methods)


def merge(
    base: Mapping[str, Any], over: Mapping[str, Any], methods: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """`over` over `base`, section by section; a section that names another method starts empty.

    A list replaces a list, and an explicit null a value.
    """
    merged = dict(base)
    for section, value in over.items():
        under = merged.get(section, {})
        merged[section] = value
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            key, default = methods.get(section, ("", ""))
            name = under.get(key, default)
            merged[section] = dict(value) if value.get(key, name) != name else merge(under, value, {})
    return merged


def _over_base(
    tree: dict[str, Any], chain: tuple[str, ...], schema: type, methods: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """A file's mapping merged over its base; `chain` holds the files from the first to this one."""
    named = "base" in tree
    base = tree.pop("base", None)
    _config_file.check_keys(tree, schema, chain[-1])
    if not named:
        return tree
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{chain[-1]}: base={base!r} must be the name of a recipe or a YAML file beside it")
    file = str(_locate(base, chain))
    if Path(file).resolve() in [Path(link).resolve() for link in chain]:
        raise ConfigError(f"a base must not lead back to its file: {' -> '.join((*chain, file))}")
    under, _ = _config_file.read(file)
    return merge(_over_base(under, (*chain, file), schema, methods), tree, methods)


def _locate(base: str, chain: tuple[str, ...]) -> Path:
    """The file that `base` means: a shipped recipe's name, else a file beside the one that names it."""
    recipes = _config_file.recipes()
    if base in recipes:
        return recipes[base]
    beside = Path(chain[-1]).parent / Path(base).expanduser()
    for file in (beside, *(beside.with_name(beside.name + suffix) for suffix in _SUFFIXES)):
        if file.is_file():
            return file
    raise ConfigError(
        f"there is no base {base!r}: name a shipped recipe, or a YAML file beside the one that needs it "
        f"({' -> '.join((*chain, base))}); {registry.closest(beside.stem, recipes)}"
    )
