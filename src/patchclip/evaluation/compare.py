"""Models side by side: what differs, and whether it could be the luck of the images drawn."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from patchclip.errors import ConfigError
from patchclip.evaluation import _bootstrap
from patchclip.evaluation._columns import Column, Key, check_common, names_of, read_columns
from patchclip.evaluation._saved import headline_of, is_share, read_samples, scores, task_words

Draws = Mapping[str, Float[np.ndarray, "d"]]


@dataclass(frozen=True)
class Difference:
    """How far a model lies above the baseline.

    Attributes:
        value: its metric minus the baseline's.
        low, high: ends of the 95 % interval, None where the metric is no mean over queries.
        below: share of the draws in which the difference is below 0.
        groups: images that were drawn from; 0 without an interval.
        other_images: whether the two results are known to be of different images, so that nothing is paired.
    """

    value: float
    low: float | None = None
    high: float | None = None
    below: float | None = None
    groups: int = 0
    other_images: bool = False

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class ComparedRow:
    """One metric of one data set, or the mean of a task over several.

    Attributes:
        task: of the results.
        dataset: its name; "" for a mean over sets.
        metric: its name; of a mean the metrics of the headline, joined by " + ".
        values: of every model, None where it has none.
        differences: of every model to the first one, None for the first and where one of the two is missing.
        sets: data sets behind the row.
        methods: that each model was segmented with, "" where it says none; empty where they are alike.
    """

    task: str
    dataset: str
    metric: str
    values: tuple[float | None, ...]
    differences: tuple[Difference | None, ...]
    sets: int = 1
    methods: tuple[str, ...] = ()

    @property
    def how(self) -> str:
        """The methods in words, "pacl against naclip"; "" where they are alike."""
        return " against ".join(method or "unknown" for method in self.methods)


@dataclass(frozen=True)
class Comparison:
    """Models side by side, the first is the baseline.

    Attributes:
        models: names to show.
        sources: the folder of each.
        rows: every metric that the baseline and another model have.
        averages: a row a task, over the sets that all models have with the same images.
        draws: of the bootstrap.
        seed: of the draws.
    """

    models: tuple[str, ...]
    sources: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    averages: tuple[ComparedRow, ...]
    draws: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: models, sources, averages, rows."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The comparison for the terminal: an aligned table for each model beside the baseline."""
        note = "differences in percentage points (other metrics: as they are), [95 % interval], "
        lines = [f"baseline: {self.models[0]}; {note}* where it leaves out 0"]
        for i, model in enumerate(self.models[1:], start=1):
            rows = [row for row in (*self.averages, *self.rows) if row.differences[i] is not None]
            table = [["", "", self.models[0], model, "difference"], *(_cells(row, i) for row in rows)]
            wide = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines.append("")
            lines += [
                "  ".join(
                    f"{cell:{'<' if k in (0, 1, 4) else '>'}{wide[k]}}" for k, cell in enumerate(row)
                ).rstrip()
                for row in table
            ]
        return lines


def compare(runs: Sequence[Path], draws: int = 2000, seed: int = 0) -> Comparison:
    """Puts models side by side, with 95 % intervals of the differences by a paired bootstrap over images.

    Formula: see `_bootstrap.differences`; the mean over sets draws the images of every set independently,
    and the categories of one captioned set, which share their images, together.
    The interval speaks of other images of the same sets, not of other trainings of the same model.
    Results whose files name different fingerprints of their images are not paired and in no mean.

    Args:
        runs: folders that eval wrote, or run folders with eval/ inside; each model in one is a column, the
            first of all is the baseline.
        draws: of the bootstrap, at least 1.
        seed: of the draws; every data set has draws of its own that do not depend on the others.

    Returns:
        Values, differences and intervals for all that the models have in common with the baseline.

    Raises:
        ConfigError: fewer than two models, or less than one draw.
        DataError: a folder without results, or a model that shares no data set with the baseline.
    """
    if draws < 1:
        raise ConfigError(f"draws={draws} must be at least 1: the interval is read off them")
    columns = read_columns([Path(run) for run in runs])
    if len(columns) < 2:
        raise ConfigError(f"{len(columns)} model to compare; give at least two, in one folder or in several")
    names = names_of(columns)
    check_common(columns, names)
    keys = [key for key in columns[0].results if any(key in other.results for other in columns[1:])]
    tables = {key: _Table(columns, key) for key in keys}
    for source in dict.fromkeys(table.source for table in tables.values()):
        _draw([table for table in tables.values() if table.source == source], source, draws, seed)
    return Comparison(
        models=tuple(names),
        sources=tuple(str(column.source) for column in columns),
        rows=tuple(row for table in tables.values() for row in table.rows()),
        averages=tuple(_averages(tables)),
        draws=draws,
        seed=seed,
    )


class _Table:
    """The results of all models on one data set and task, and the draws of their differences."""

    def __init__(self, columns: Sequence[Column], key: Key) -> None:
        self.key = key
        self.found = [column.results.get(key) for column in columns]
        self.samples = [read_samples(each[0]) if each else {} for each in self.found]
        known = [each[1]["fingerprint"] if each else "" for each in self.found]
        self.other_images = [bool(known[0] and mark and mark != known[0]) for mark in known]
        self.pairs = [self._pairs(i) for i in range(len(columns))]
        self.drawn: list[Draws] = []
        self.images = 0

    @property
    def source(self) -> Key:
        """Task and set of the images; the categories of a set of captions share theirs."""
        task, dataset = self.key
        return (
            (task, dataset.rpartition("/")[0] or dataset) if task == "image_caption_selection" else self.key
        )

    @cached_property
    def values(self) -> list[dict[str, float]]:
        """Metrics of every model, empty where it has none."""
        return [scores(each[1]) if each else {} for each in self.found]

    def rows(self) -> list[ComparedRow]:
        """A row for each metric that the baseline and another model have."""
        task, dataset = self.key
        metrics = [name for name in self.values[0] if any(name in other for other in self.values[1:])]
        return [
            ComparedRow(
                *(task, dataset, metric),
                tuple(values.get(metric) for values in self.values),
                tuple(self._difference(i, metric) for i in range(len(self.found))),
                methods=_methods([self]),
            )
            for metric in metrics
        ]

    def headline(self) -> tuple[str, ...]:
        """The metrics that stand for the set, if every model has them, for the same images."""
        first = self.found[0]
        names = headline_of(first[1]) if first and not any(self.other_images) else ()
        return names if all(name in values for name in names for values in self.values) else ()

    def _pairs(self, i: int) -> dict[str, _bootstrap.Pair]:
        """Every metric of a model and the baseline, image by image."""
        if i == 0 or self.other_images[i]:
            return {}
        first, other = self.samples[0], self.samples[i]
        shared = {name: _bootstrap.pair(first[name], other[name]) for name in other if name in first}
        return {name: found for name, found in shared.items() if found is not None}

    def _difference(self, i: int, metric: str) -> Difference | None:
        if i == 0 or metric not in self.values[i] or metric not in self.values[0]:
            return None
        value, paired = self.values[i][metric] - self.values[0][metric], self.pairs[i].get(metric)
        if paired is None:
            return Difference(value, other_images=self.other_images[i])
        value = value if paired.whole else paired.difference
        return difference(value, self.drawn[i][metric], len(paired.groups))


def _draw(tables: Sequence[_Table], source: Key, draws: int, seed: int) -> None:
    """The draws of tables over the same images: one draw of images for all of them and all models."""
    pairs = [pair for table in tables for each in table.pairs for pair in each.values()]
    every = np.unique(np.concatenate([pair.groups for pair in pairs])) if pairs else None
    place = zlib.crc32("\0".join(source).encode())
    for table in tables:
        table.images = 0 if every is None else len(every)
        table.drawn = [
            _bootstrap.differences(pairs, draws, np.random.default_rng((seed, place)), every)
            for pairs in table.pairs
        ]


def difference(value: float, drawn: Float[np.ndarray, "d"], groups: int) -> Difference:
    """A difference with the interval of its draws."""
    ends = _bootstrap.interval(drawn)
    if ends is None:
        return Difference(value)
    return Difference(value, *ends, below=float((drawn < 0).mean()), groups=groups)


def _methods(tables: Sequence[_Table]) -> tuple[str, ...]:
    """What "auto" chose for each model, empty where it was the same for all on every set."""
    used = [[str(each[1]["details"].get("method", "")) if each else None for each in t.found] for t in tables]
    if all(len({method for method in row if method is not None}) == 1 for row in used):
        return ()
    return tuple(" + ".join(dict.fromkeys(filter(None, column))) for column in zip(*used, strict=True))


def _averages(tables: Mapping[Key, _Table]) -> list[ComparedRow]:
    """A row for each task: the mean of the headline over the sets that all models have."""
    found = []
    for task in dict.fromkeys(task for task, _ in tables):
        among = [table for table in tables.values() if table.key[0] == task and table.headline()]
        if not among:
            continue
        metrics = " + ".join(dict.fromkeys(name for table in among for name in table.headline()))
        values = [
            fmean(fmean(table.values[i][name] for name in table.headline()) for table in among)
            for i in range(len(among[0].found))
        ]
        apart = (None, *(_mean_difference(among, i, values[i] - values[0]) for i in range(1, len(values))))
        found.append(ComparedRow(task, "", metrics, tuple(values), apart, len(among), _methods(among)))
    return found


def _mean_difference(tables: Sequence[_Table], i: int, value: float) -> Difference:
    """The mean difference with its interval, if every set has samples."""
    if not all(name in table.drawn[i] for table in tables for name in table.headline()):
        return Difference(value)
    each = [np.mean([table.drawn[i][name] for name in table.headline()], axis=0) for table in tables]
    images = {table.source: table.images for table in tables}
    return difference(value, np.mean(each, axis=0), sum(images.values()))


def _cells(row: ComparedRow, i: int) -> list[str]:
    """What is measured, both values, and "+1.8 [+0.3, +3.1] *"."""
    share = all(map(is_share, row.metric.split(" + ")))
    factor, digits, unit = (100.0, 1, " %") if share else (1.0, 2, "")
    words = f"{row.dataset}, {task_words(row.task)}"
    if not row.dataset:
        words = f"{task_words(row.task)}, mean of {row.sets} set{'s' if row.sets > 1 else ''}"
    words += f", {row.how}" if row.how else ""
    values = ["-" if v is None else f"{v * factor:.{digits}f}{unit}" for v in (row.values[0], row.values[i])]
    apart, text = row.differences[i], ""
    if apart is not None and apart.other_images:
        text = "other images"
    elif apart is not None:
        text = f"{apart.value * factor:+.{digits}f}"
        if apart.low is not None and apart.high is not None:
            text += f" [{apart.low * factor:+.{digits}f}, {apart.high * factor:+.{digits}f}]"
        text += " *" if apart.significant else ""
    return [words, row.metric.replace("_retrieval_recall@", " R@"), *values, text]
