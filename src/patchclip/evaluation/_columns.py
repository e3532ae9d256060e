"""The models to compare: one column for each model of each run, with a name that tells it apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patchclip.errors import DataError
from patchclip.evaluation._saved import (
    Saved,
    model_key,
    name_sets,
    read_folder,
    set_name,
    short_names,
    task_order,
    task_words,
)

Key = tuple[str, str]
"""Task and data set."""


@dataclass(frozen=True)
class Column:
    """One model of one run."""

    source: Path
    key: str
    results: dict[Key, tuple[Path, Saved]]


def read_columns(runs: Sequence[Path]) -> list[Column]:
    """The models of every run, by name; data sets have the same names in all runs.

    Raises:
        DataError: no folder, or one without results.
    """
    read = []
    for run in runs:
        folder = run / "eval" if (run / "eval").is_dir() else run
        read.append(read_folder(folder))
        if not read[-1]:
            raise DataError(
                f"{str(folder)!r} holds no results: write some with patchclip eval --output {folder}"
            )
    name_sets(*([result for _, result in found] for found in read))
    columns = []
    for run, found in zip(runs, read, strict=True):
        models: dict[str, dict[Key, tuple[Path, Saved]]] = {}
        for path, result in found:
            models.setdefault(model_key(result), {})[result["task"], set_name(result)] = (path, result)
        columns += [Column(run, key, results) for key, results in sorted(models.items())]
    return columns


def names_of(columns: Sequence[Column]) -> list[str]:
    """A name for each column; models that have one name in several runs are named by the runs."""
    keys = [column.key for column in columns]
    own: list[str] = []
    for column in columns:
        alone = sum(other.source == column.source for other in columns) == 1
        name = column.key if keys.count(column.key) == 1 else str(column.source)
        name = name if alone or name == column.key else f"{column.source}/{column.key}"
        own.append(f"{name} ({own.count(name) + 1})" if name in own else name)
    short = short_names(own)
    return [short[name] for name in own]


def check_common(columns: Sequence[Column], names: Sequence[str]) -> None:
    """Raises DataError if a model shares nothing with the first, naming what each has."""
    first = columns[0]
    for column, name in zip(columns[1:], names[1:], strict=True):
        if not set(column.results) & set(first.results):
            raise DataError(
                f"{names[0]} and {name} share no data set and task: {names[0]} has {_listed(first)}, "
                f"{name} has {_listed(column)}; evaluate both on the same sets"
            )


def _listed(column: Column, most: int = 8) -> str:
    keys = sorted(column.results, key=lambda key: (task_order(key[0]), key[1]))
    shown = ", ".join(f"{dataset} ({task_words(task)})" for task, dataset in keys[:most])
    return f"{shown} and {len(keys) - most} more" if len(keys) > most else shown
