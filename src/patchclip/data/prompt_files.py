"""Class names and prompts from a user's files, in place of those that a set brings.

names.txt       one class name a line, in the order of the labels
names.json      {set: [class name, ...]}, as clip_benchmark's --custom_classname_file
prompts.txt     one prompt a line with {c} for the class name
prompts.json    {set: [prompt, ...]} or {set: {class name: [prompt, ...]}}, as --custom_template_file
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from patchclip.data.dataset_lists import match
from patchclip.data.layouts.text_files import check_template, read_json, read_lines, read_templates
from patchclip.data.sets import Benchmark, Classification, Multilabel
from patchclip.errors import DataError

logger = logging.getLogger(__name__)

_Templates = tuple[str, ...] | Mapping[str, tuple[str, ...]]


def with_prompts(
    benchmark: Benchmark, classnames: str | Path | None = None, templates: str | Path | None = None
) -> Benchmark:
    """The set with the class names and prompts of files.

    Sets without classes, and sets that a JSON file does not name, stay as they are; the latter is logged.

    Differs: clip_benchmark gives a set that the file does not name the prompts of "imagenet1k".

    Args:
        benchmark: Any set.
        classnames: A .txt or .json with class names, None to keep those of the set.
        templates: A .txt or .json with prompts, None to keep those of the set.

    Raises:
        DataError: A file cannot be read, or does not fit the classes.
    """
    if not isinstance(benchmark, Classification | Multilabel):
        return benchmark
    names = _classnames(benchmark, Path(classnames)) if classnames else benchmark.classnames
    prompts = _templates(benchmark.name, names, Path(templates)) if templates else None
    if prompts is None:
        prompts = benchmark.templates
        _check_prompts(names, prompts, f"the prompts of {benchmark.name}")
    if not isinstance(benchmark, Classification):
        return replace(benchmark, classnames=names, templates=prompts)
    opener = benchmark.opener

    def other(split: str) -> Classification | None:
        found = opener(split)
        return None if found is None else replace(found, classnames=names, templates=prompts)

    return replace(benchmark, classnames=names, templates=prompts, opener=other)


def _classnames(benchmark: Classification | Multilabel, path: Path) -> tuple[str, ...]:
    rule = "class names: a .txt with one a line, or a .json {set: [names]}"
    if path.suffix != ".json":
        found, place = read_lines(path, rule), str(path)
    else:
        value, place = _entry(path, benchmark.name, rule)
        if value is None:
            return benchmark.classnames
        found = _texts(value, place)
    if len(found) != len(benchmark.classnames):
        raise DataError(
            f"{place} must have a name for each of the {len(benchmark.classnames)} classes of "
            f"{benchmark.name}, got {len(found)}"
        )
    return tuple(found)


def _templates(name: str, classnames: Sequence[str], path: Path) -> _Templates | None:
    """The prompts of a file, None where it does not name the set."""
    if path.suffix != ".json":
        return read_templates(path)
    value, place = _entry(path, name, "prompts: {set: [prompts]} or {set: {class name: [prompts]}}")
    if value is None:
        return None
    if isinstance(value, dict):
        own = {key: tuple(_texts(texts, f"{place}, {key!r}")) for key, texts in value.items()}
        _check_prompts(classnames, own, place)
        return own
    found = tuple(_texts(value, place))
    for number, text in enumerate(found):
        check_template(text, f"{place}, prompt {number}")
    return found


def _check_prompts(classnames: Sequence[str], prompts: _Templates, place: str) -> None:
    gone = [name for name in classnames if isinstance(prompts, Mapping) and name not in prompts]
    if gone:
        raise DataError(
            f"{place} must have prompts for each of the {len(classnames)} class names, "
            f"got none for {gone[0]!r}" + (f" and {len(gone) - 1} more" if len(gone) > 1 else "")
        )


def _entry(path: Path, name: str, rule: str) -> tuple[Any, str]:
    """What a JSON file says of a set, None where it does not name it, and the place for messages."""
    content = read_json(path, rule)
    if not isinstance(content, dict):
        raise DataError(f"{path} must be an object with {rule}, got {type(content).__name__}")
    key = match(name, list(content))
    if key is None:
        logger.warning("%s does not name %s, which keeps its own", path, name)
        return None, str(path)
    return content[key], f"{path}, {key!r}"


def _texts(value: Any, place: str) -> list[str]:
    wrong = not isinstance(value, list) or not value or not all(isinstance(t, str) and t for t in value)
    if wrong:
        raise DataError(f"{place}: it must be a list of texts, at least one, none of them empty")
    return list(value)
