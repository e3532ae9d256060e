"""Tables of the evaluation pages: values with their marks, chance levels and footnotes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from patchclip.evaluation._saved import LOWER_IS_BETTER, Saved, is_share, task_order, task_words
from patchclip.report.evaluation.data import Axis, Collection, Model

MISSING = "–"
TURNED_FROM = 8
"""Columns from which headings stand upright, so that a table of 17 sets fits a screen."""

UNMARKED = re.compile(r"drop$|^fooled|_std$|agreement$")
"""Measures of steadiness: a model that guesses is best at them, so that a mark would mislead."""

TIES = "ties count for the model there"
TIES_BY_METRIC = {"mean_average_precision": "ties, and a class without a right image counts as 0 there"}

Value = float | None


@dataclass(frozen=True)
class Cell:
    """One figure: its text, "best" or "second" as its mark, a footnote sign, and a longer text on hover."""

    text: str
    mark: str = ""
    sign: str = ""
    title: str = ""
    shade: float | None = None


@dataclass(frozen=True)
class Row:
    """Cells behind a heading; `kind` is "chance" for grey rows."""

    head: str
    cells: tuple[Cell, ...]
    kind: str = ""
    small: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under a common heading, "" for none."""

    heading: str
    rows: tuple[Row, ...]
    small: str = ""


@dataclass(frozen=True)
class Heading:
    """A column's heading, and its full wording on hover."""

    text: str
    title: str = ""


@dataclass
class Table:
    """Rows under headings.

    Attributes:
        corner: what the first column holds.
        headings: one a column.
        groups: rows; marks are made within a group.
        spans: headings above the headings, as (text, columns).
        notes: footnotes as (sign, text).
        turned: whether the headings stand upright.
        last: whether the last column is a mean, set apart from the others.
    """

    corner: str
    headings: list[Heading]
    groups: list[Group] = field(default_factory=list)
    spans: list[tuple[str, int]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    turned: bool = False
    last: bool = False

    def sign(self, text: str) -> str:
        """The footnote sign of a text; texts that are alike share one."""
        for sign, known in self.notes:
            if known == text:
                return sign
        self.notes.append((str(len(self.notes) + 1), text))
        return self.notes[-1][0]


def shown(value: Value, metric: str) -> str:
    """A value as the tables have it: shares in per cent without the sign."""
    if value is None:
        return MISSING
    if is_share(metric):
        return f"{value * 100:.1f}"
    if metric.endswith("rank"):
        return f"{value:.1f}" if value < 1000 else f"{value:.0f}"
    return f"{value:.3g}"


def marks(values: Sequence[Value], metric: str) -> list[str]:
    """ "best" for the best values and "second" for the next, as they are shown.

    Where all are equal or only one is known there is no mark; among two there is no second; `UNMARKED`
    metrics have none.
    """
    if UNMARKED.search(metric):
        return [""] * len(values)
    texts = [shown(value, metric) for value in values]
    numbers = [None if value is None else float(text) for value, text in zip(values, texts, strict=True)]
    known = sorted({n for n in numbers if n is not None}, reverse=not LOWER_IS_BETTER.search(metric))
    among = sum(number is not None for number in numbers)
    if len(known) < 2:
        return [""] * len(values)
    second = known[1] if among > 2 else None
    return [
        "" if number is None else "best" if number == known[0] else "second" if number == second else ""
        for number in numbers
    ]


def chance_of(result: Saved, metric: str) -> Value:
    """What guessing would score, None where it is not known.

    Beside what the result says: the one right entry among g is at rank (g + 1) / 2, in the mean and in the
    median. Every caption has one right image; an image one right caption only where both are as many.
    """
    images, one_each = result["images"], result["images"] == result["captions"]
    of_images = metric.startswith("image_retrieval_")
    if images and metric.endswith(("_mean_rank", "_median_rank")) and (of_images or one_each):
        return float((images + 1) / 2)
    level = result["chance"].get(metric)
    return None if level is None else float(level)


def by_set(collection: Collection, task: str, metric: str) -> Table | None:
    """Models as rows, data sets as columns, their mean last: the shape of the CLIP-PGS paper's tables."""
    sets = [
        name
        for name in collection.sets(task)
        if any(metric in each["metrics"] for each in _results(collection, task, name))
    ]
    models = collection.models_of(task)
    if not sets:
        return None
    table = Table("model", [Heading(name, name) for name in sets], last=len(sets) > 1)
    columns = [[_value(collection.cell(each, task, name), metric) for each in models] for name in sets]
    chances = [chance_of(collection.any_of(task, name), metric) for name in sets]
    cells = [_column([collection.cell(each, task, name) for each in models], metric, table) for name in sets]
    if len(sets) > 1:
        table.headings.append(Heading("average", f"mean of {len(sets)} sets"))
        cells.append(_mean_cells([list(row) for row in zip(*columns, strict=True)], metric, table))
    rows = [
        Row(each.name, row)
        for each, row in zip(models, [tuple(row) for row in zip(*cells, strict=True)], strict=True)
    ]
    means = [*chances, *([_mean(chances)] if len(sets) > 1 else [])]
    rows += chance_row([(value, metric) for value in means])
    table.groups = [Group("", tuple(rows))]
    table.turned = len(sets) >= TURNED_FROM
    return table


def by_metric(
    collection: Collection,
    task: str,
    columns: Sequence[tuple[str, str]],
    spans: Sequence[tuple[str, int]] = (),
) -> Table:
    """Models as rows under each data set, metrics as columns.

    Args:
        collection: the results.
        task: of the rows.
        columns: metrics with their headings; one that no result has is left out.
        spans: headings above, over as many of `columns` as they name.
    """
    results = collection.of(task)
    owner = [words for words, many in spans for _ in range(many)] or [""] * len(columns)
    used = [
        (metric, words, above)
        for (metric, words), above in zip(columns, owner, strict=True)
        if any(metric in each["metrics"] for each in results)
    ]
    table = Table("set and model", [Heading(words, metric) for metric, words, _ in used])
    aboves = [above for _, _, above in used]
    if spans:
        table.spans = [(above, aboves.count(above)) for above in dict.fromkeys(aboves)]
    models = collection.models_of(task)
    for name in collection.sets(task):
        present = [each for each in models if collection.cell(each, task, name)]
        found = [collection.cell(each, task, name) for each in present]
        cells = [_column(found, metric, table) for metric, _, _ in used]
        rows = [Row(each.name, row) for each, row in zip(present, zip(*cells, strict=True), strict=True)]
        first = collection.any_of(task, name)
        rows += chance_row([(chance_of(first, metric), metric) for metric, _, _ in used])
        table.groups.append(Group(name, tuple(rows), size_words(first)))
    return table


def headline_table(models: Sequence[Model], axes: Sequence[Axis], words: Sequence[str]) -> Table:
    """Models as rows, tasks as columns: means over the sets that all models have."""
    headings = [
        Heading(text, f"{axis.metric}, mean of {', '.join(axis.sets)}")
        for axis, text in zip(axes, words, strict=True)
    ]
    table = Table("model", headings)
    cells = []
    for axis in axes:
        found = zip(axis.values, marks(axis.values, axis.metric), strict=True)
        cells.append([Cell(shown(value, axis.metric), mark) for value, mark in found])
    rows = [Row(model.name, row) for model, row in zip(models, zip(*cells, strict=True), strict=True)]
    rows += chance_row([(axis.chance, axis.metric) for axis in axes])
    counts = [f"{len(axis.sets)} set{'s' if len(axis.sets) > 1 else ''}" for axis in axes]
    rows.append(Row("mean of", tuple(Cell(text) for text in counts), "chance"))
    table.groups = [Group("", tuple(rows))]
    return table


def by_shots(collection: Collection, tasks: Sequence[str]) -> Table:
    """Models as rows under each data set, numbers of training images of a class as columns.

    Args:
        collection: the results.
        tasks: of few-shot probes, in order of their k.
    """
    heads = [Heading(f"{task_order(task)[1]}", task_words(task)) for task in tasks]
    table = Table("set and model", heads, spans=[("training images of each class", len(tasks))])
    for name in sorted({name for task in tasks for name in collection.sets(task)}):
        models = [each for each in collection.models if any(collection.cell(each, t, name) for t in tasks)]
        cells = [
            _column([collection.cell(each, task, name) for each in models], "lp_acc1", table)
            for task in tasks
        ]
        rows = [Row(each.name, row) for each, row in zip(models, zip(*cells, strict=True), strict=True)]
        level = chance_of(collection.any_of(tasks, name), "lp_acc1")
        rows += chance_row([(level, "lp_acc1")] * len(tasks))
        table.groups.append(Group(name, tuple(rows)))
    return table


def chance_row(values: Sequence[tuple[Value, str]]) -> list[Row]:
    """The row of chance levels, given with their metrics; none where no level is known."""
    if all(value is None for value, _ in values):
        return []
    return [Row("chance", tuple(Cell(shown(*value)) for value in values), "chance")]


def size_words(result: Saved) -> str:
    """ "160 images, 16 classes"."""
    parts = [
        f"{int(result[key]):,} {words}".replace(",", "\u202f")
        for key, words in (("images", "images"), ("classes", "classes"), ("captions", "captions"))
        if result[key]
    ]
    return ", ".join(parts)


def _column(found: Sequence[Saved | None], metric: str, table: Table) -> list[Cell]:
    """One metric of all models on one set."""
    values = [_value(each, metric) for each in found]
    cells = []
    for each, value, mark in zip(found, values, marks(values, metric), strict=True):
        theirs = each["clip_benchmark"].get(metric) if each else None
        sign = ""
        if theirs is not None:
            text = f"clip_benchmark gives {theirs:.1%}: {TIES_BY_METRIC.get(metric, TIES)}."
            sign = table.sign(text.replace("%", "\u202f%"))
        cells.append(Cell(shown(value, metric), mark, sign))
    return cells


def _mean_cells(rows: Sequence[Sequence[Value]], metric: str, table: Table) -> list[Cell]:
    """Means of the rows; one over fewer sets than the table has says so and takes no mark."""
    whole = [_mean(row) if None not in row else None for row in rows]
    cells = []
    for row, mark in zip(rows, marks(whole, metric), strict=True):
        known = [value for value in row if value is not None]
        part = 0 < len(known) < len(row)
        sign = table.sign(f"Over {len(known)} of {len(row)} sets.") if part else ""
        cells.append(Cell(shown(fmean(known) if known else None, metric), mark, sign))
    return cells


def _mean(values: Sequence[Value]) -> Value:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _value(result: Saved | None, metric: str) -> Value:
    return result["metrics"].get(metric) if result else None


def _results(collection: Collection, task: str, dataset: str) -> list[Saved]:
    found = (collection.cell(each, task, dataset) for each in collection.models)
    return [each for each in found if each]
