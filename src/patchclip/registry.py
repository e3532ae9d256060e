"""Methods by family and file name: `masking/pgs.py` is `masking.name=pgs`, its constructor is its schema.

There is no list to edit. A method is every module of a family's package whose name has no leading
underscore; the class is the one public class defined in it. A third party adds its own through the entry
point group `patchclip.<family>`. Listing names imports nothing heavy; a method is imported when it is used.
"""

import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from patchclip.errors import ConfigError, PatchclipError

FAMILIES: dict[str, str] = {
    "masking": "patchclip.masking",
    "losses": "patchclip.losses",
    "stability": "patchclip.stability",
    "reduction": "patchclip.reduction",
    "suites": "patchclip.evaluation.suites",
    "heads": "patchclip.heads",
    "dense": "patchclip.dense.methods",
    "refinement": "patchclip.dense.refinement",
    "corruptors": "patchclip.data.corruptors",
    "context": "patchclip.models.context",
    "maps": "patchclip.embeddings.maps",
    "scores": "patchclip.embeddings.scores",
    "adapt": "patchclip.adapt.methods",
    "geometry": "patchclip.geometry.analyses",
    "explanations": "patchclip.geometry.explanations",
}
"""Family -> the package that holds its methods. A new family is one line here."""

_PLURAL = {
    "masking": "maskers",
    "stability": "gradient clippers",
    "reduction": "reducers",
    "dense": "dense methods",
    "refinement": "refinements",
    "corruptors": "text corruptors",
    "context": "ways to read long captions",
    "maps": "linear maps",
    "adapt": "adapters",
    "geometry": "analyses of embeddings",
}


@dataclass(frozen=True)
class Entry:
    """One line of `patchclip list`: the name, one sentence, and where it comes from."""

    name: str
    summary: str
    source: str


def closest(received: str, known: Iterable[str]) -> str:
    """The tail of every unknown-name message: the nearest name, if one is near, and the whole list."""
    options = sorted(known)
    near = difflib.get_close_matches(received, options, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}Known: {', '.join(options) or 'none'}"


def names(family: str) -> list[str]:
    """The names of a family's methods, sorted, without importing them.

    Args:
        family: a key of `FAMILIES`.

    Raises:
        ConfigError: if there is no such family.
    """
    return sorted({*_files(family), *_entry_points(family)})


def load(family: str, name: str) -> type:
    """The class of one method.

    Args:
        family: a key of `FAMILIES`.
        name: the file name without `.py`, or the name of an entry point.

    Raises:
        ConfigError: if the name is unknown or taken twice, if a package that it needs is not installed, or
            if its file does not define exactly one public class.
    """
    module, attribute = _locate(family, name)
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not missing or module.split(".")[0] == missing.split(".")[0]:
            raise
        raise ConfigError(
            f"{family}/{name} needs the package {missing!r}, which is not installed: {install_line(missing)}"
        ) from error
    if attribute:
        found = getattr(loaded, attribute, None)
        if not isinstance(found, type):
            raise ConfigError(f"entry point {family}/{name} must be a class, got {module}:{attribute}")
        return found
    return _public_class(loaded.__name__, vars(loaded))


def options(family: str, name: str) -> Mapping[str, inspect.Parameter]:
    """The constructor's parameters by name: what may stand beside the method's name in a configuration."""
    return inspect.signature(load(family, name)).parameters


def accepts(family: str, name: str, option: str) -> bool:
    """Whether a method's constructor takes `option`."""
    parameters = options(family, name)
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def check(family: str, name: str, given: Mapping[str, Any], beside: str | None = None) -> None:
    """Hold options against a constructor without calling it.

    Args:
        family: a key of `FAMILIES`.
        name: the method.
        given: options by name, as a configuration holds them.
        beside: the configuration key that stands beside the options, offered where one is misspelt.

    Raises:
        ConfigError: if an option is unknown, of another type than the constructor's plain annotation (int,
            float, str, bool, None and unions of them), or one without a default is missing.
    """
    parameters = options(family, name)
    for option in given:
        if not accepts(family, name, option):
            known = [*parameters, *([beside] if beside else [])]
            raise ConfigError(f"{family}/{name} has no option {option!r}; {closest(option, known)}")
        if option in parameters and not _fits(parameters[option].annotation, given[option]):
            kind = _type_name(parameters[option].annotation)
            raise ConfigError(f"{family}/{name}: {option}={given[option]!r} must be of the type {kind}")
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for option, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind not in skipped
        if needed and option not in given:
            raise ConfigError(f"{family}/{name} needs the option {option!r}, got {_shown(given)}")


def build(family: str, name: str, **given: Any) -> Any:
    """An instance of one method.

    Args:
        family: a key of `FAMILIES`.
        name: the method.
        **given: constructor options. Lists arrive as tuples, since a method's options do not change.

    Returns:
        The constructed object.

    Raises:
        ConfigError: if an option is unknown, missing or of a type that the constructor refuses. What the
            constructor raises on purpose (`PatchclipError`) passes unchanged.
    """
    check(family, name, given)
    try:
        return load(family, name)(**{option: _frozen(value) for option, value in given.items()})
    except PatchclipError:
        raise
    except TypeError as error:
        raise ConfigError(f"{family}/{name} refuses the options {_shown(given)}: {error}") from error


def describe(family: str) -> list[Entry]:
    """Every method of a family with its first sentence and its source, read without importing it."""
    return [_entry(name, *_docstrings(*_locate(family, name))) for name in names(family)]


def show(family: str, name: str) -> str:
    """The signature, the options with their defaults, and the docstring of one method, as text."""
    found = load(family, name)
    lines = [f"{family}/{name}", ""]
    for option, parameter in options(family, name).items():
        kind = "" if parameter.annotation is parameter.empty else f": {_type_name(parameter.annotation)}"
        default = " (required)" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"  {option}{kind}{default}")
    if len(lines) == 2:
        lines.append("  (no options)")
    return "\n".join([*lines, "", f"class {found.__name__}", "", inspect.getdoc(found) or ""]).rstrip()


def install_line(module: str) -> str:
    """The command that brings a missing module: one of our extras where it belongs to one."""
    try:
        requirements = importlib.metadata.requires("patchclip") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    wanted = module.split(".")[0].replace("_", "-").lower()
    for requirement in requirements:
        package = re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0].replace("_", "-").lower()
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", requirement)
        if extra and extra[1] != "dev" and package == wanted:
            return f"pip install 'patchclip[{extra[1]}]'"
    return f"pip install {wanted}"


def _files(family: str) -> dict[str, str]:
    if family not in FAMILIES:
        raise ConfigError(f"there is no family {family!r}; {closest(family, FAMILIES)}")
    spec = importlib.util.find_spec(FAMILIES[family])
    if spec is None or spec.submodule_search_locations is None:
        return {}
    found = (module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))
    return {name: f"{FAMILIES[family]}.{name}" for name in found if not name.startswith("_")}


def _entry_points(family: str) -> dict[str, importlib.metadata.EntryPoint]:
    points = importlib.metadata.entry_points(group=f"patchclip.{family}")
    return {point.name: point for point in points}


def _locate(family: str, name: str) -> tuple[str, str]:
    """Module and attribute of a method; the attribute is empty where the file's one class is meant."""
    files, points = _files(family), _entry_points(family)
    if name not in points:
        name = name.replace("-", "_")  # papers write PGS-released, files pgs_released
    if name in files and name in points:
        raise ConfigError(
            f"{family}/{name} is taken twice: rename the entry point {points[name].value!r}, "
            "the name belongs to patchclip's own method"
        )
    if name in files:
        return files[name], ""
    if name in points:
        return points[name].module, points[name].attr
    raise ConfigError(
        f"there is no {name!r} among the {_PLURAL.get(family, family)}; {closest(name, names(family))}"
    )


def _public_class(module: str, members: Mapping[str, Any]) -> type:
    own = [
        value
        for name, value in members.items()
        if isinstance(value, type) and value.__module__ == module and not name.startswith("_")
    ]
    if len(own) != 1:
        found = ", ".join(value.__name__ for value in own) or "none"
        raise ConfigError(f"a method's file must define exactly one public class: {module} defines {found}")
    return own[0]


def _docstrings(module: str, attribute: str) -> tuple[str, str]:
    """Docstrings of a method's class and module, read from its source text."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        return "", f"(its module {module} is not installed)"
    with open(spec.origin, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    chosen = [node for node in classes if not attribute or node.name == attribute]
    return (ast.get_docstring(chosen[0]) or "" if chosen else ""), ast.get_docstring(tree) or ""


def _entry(name: str, of_class: str, of_module: str) -> Entry:
    summary = re.split(r"(?<=[.!?])\s|\n\s*\n", of_class or of_module, maxsplit=1)[0]
    source = re.search(
        r"^\s*Source:\s*(.+?)(?=\n\s*\n|\n\s*\w+:|\Z)", f"{of_class}\n\n{of_module}", re.M | re.S
    )
    return Entry(name, " ".join(summary.split()), " ".join(source[1].split()) if source else "")


def _fits(annotation: Any, value: Any) -> bool:
    """Whether a value is of a plain type; annotations that are not plain accept everything."""
    kinds = typing.get_args(annotation) or (annotation,)
    if not all(kind in (int, float, str, bool, type(None)) for kind in kinds):
        return True
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _shown(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{option}={value!r}" for option, value in given.items()) or "no options"


def _type_name(annotation: Any) -> str:
    if type(annotation) is type:
        return annotation.__name__
    return re.sub(r"\b(typing|collections\.abc)\.", "", str(annotation))
