"""The results of a folder as the pages use them: by model, task and data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from patchclip.evaluation._saved import (
    Saved,
    headline_of,
    model_key,
    read_folder,
    read_missing,
    set_name,
    short_names,
    task_order,
)

MOST_COLOURED = 6
"""Models that charts can tell apart by colour."""


@dataclass(frozen=True)
class Model:
    """One model of the page: its key, the name to show, and its colour (1 to 6, 0 beyond them)."""

    key: str
    name: str
    tone: int


@dataclass(frozen=True)
class Axis:
    """The mean of one task over the sets that all models of it have.

    Attributes:
        task: its name.
        sets: names of these sets.
        metric: the metric, or several joined by " + ".
        values: of every model, None for a model without results of the task.
        chance: mean chance level, None where it is not known.
    """

    task: str
    sets: tuple[str, ...]
    metric: str
    values: tuple[float | None, ...]
    chance: float | None


class Collection:
    """Results of several models on several sets.

    Args:
        results: as `read_folder` gives them.
        missing: what could not be evaluated, as (asked, reason).
    """

    def __init__(self, results: Sequence[Saved], missing: Sequence[dict[str, str]] = ()) -> None:
        self.results, self.missing = list(results), list(missing)
        names = short_names(model_key(result) for result in results)
        self.models = [
            Model(key, name, i if i <= MOST_COLOURED else 0)
            for i, (key, name) in enumerate(sorted(names.items(), key=lambda each: each[1]), start=1)
        ]

    @classmethod
    def read(cls, folder: Path) -> "Collection":
        """Reads a folder. Raises DataError if it does not exist."""
        return cls([result for _, result in read_folder(folder)], read_missing(folder))

    @cached_property
    def _cells(self) -> dict[tuple[str, str, str], Saved]:
        return {(model_key(each), each["task"], set_name(each)): each for each in self.results}

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks that have results, in the order of the page."""
        return sorted({result["task"] for result in self.results}, key=task_order)

    def of(self, task: str) -> list[Saved]:
        """The results of one task."""
        return [result for result in self.results if result["task"] == task]

    def sets(self, task: str) -> list[str]:
        """The data sets that a task has results of, sorted."""
        return sorted({set_name(result) for result in self.of(task)})

    def cell(self, model: Model, task: str, dataset: str) -> Saved | None:
        """A model's result, None where there is none."""
        return self._cells.get((model.key, task, dataset))

    def any_of(self, tasks: str | Sequence[str], dataset: str) -> Saved:
        """Some model's result on a set, of one of the tasks."""
        tasks = [tasks] if isinstance(tasks, str) else tasks
        return next(each for task in tasks for each in self.of(task) if set_name(each) == dataset)

    def models_of(self, task: str) -> list[Model]:
        """The models that have results of a task."""
        return [each for each in self.models if any(self.cell(each, task, name) for name in self.sets(task))]

    def best(self, task: str) -> Model:
        """The model with the highest mean headline of a task; the first one where there is no headline."""
        models = self.models_of(task)
        return max(models, key=lambda model: self._mean(model, task, self.sets(task)) or 0.0)

    def axis(self, task: str) -> Axis | None:
        """A task's headline over the sets that all its models have; None where there is none."""
        models = self.models_of(task)
        sets = [
            name
            for name in self.sets(task)
            if all((found := self.cell(each, task, name)) and headline_of(found) for each in models)
        ]
        if not sets:
            return None
        first = [headline_of(self.any_of(task, name)) for name in sets]
        chances = [
            self.any_of(task, name)["chance"].get(metric)
            for name, metrics in zip(sets, first, strict=True)
            for metric in metrics
        ]
        values = tuple(self._mean(each, task, sets) if each in models else None for each in self.models)
        known = [chance for chance in chances if chance is not None]
        metric = " + ".join(dict.fromkeys(name for metrics in first for name in metrics))
        return Axis(task, tuple(sets), metric, values, fmean(known) if len(known) == len(chances) else None)

    @cached_property
    def axes(self) -> list[Axis]:
        """All tasks that have a headline; a probe of few images is a point of its own curve, no task."""
        return [axis for task in self.tasks if not task_order(task)[1] and (axis := self.axis(task))]

    def _mean(self, model: Model, task: str, sets: Sequence[str]) -> float | None:
        """Mean headline over the sets that the model has."""
        found = [self.cell(model, task, name) for name in sets]
        values = [
            fmean(each["metrics"][metric] for metric in headline_of(each))
            for each in found
            if each and headline_of(each)
        ]
        return fmean(values) if values else None
