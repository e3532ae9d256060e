"""Robustness on the evaluation page: shifted sets beside ordinary ones, corruptions, lines of logits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from markupsafe import Markup

from patchclip.evaluation._saved import Saved
from patchclip.evaluation.shift import effective_robustness, logit_fit
from patchclip.report.evaluation.charts import Scale, Series, plot
from patchclip.report.evaluation.data import Collection, Model
from patchclip.report.evaluation.tables import (
    Cell,
    Group,
    Heading,
    Row,
    Table,
    chance_of,
    chance_row,
    marks,
    shown,
)

SHIFT, CORRUPTION = "distribution_shift", "corruption"
LOGIT_TICKS = (0.01, 0.02, 0.05, *(i / 10 for i in range(1, 10)), 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Shift:
    """One shifted set beside its reference: a table, and a plot of logits where models suffice."""

    dataset: str
    reference: str
    small: str
    table: Table
    drawing: Markup


@dataclass(frozen=True)
class Heat:
    """Corruption of one set: kinds x models, and kinds x severities of each model."""

    dataset: str
    small: str
    summary: Table
    models: list[tuple[str, Table]] = field(default_factory=list)


def shift_average(collection: Collection) -> Table | None:
    """Models as rows: mean accuracy on the references, on every shifted set, and over these."""
    sets = collection.sets(SHIFT)
    models = collection.models_of(SHIFT)
    if not sets:
        return None
    table = Table("model", [Heading("in distribution", "mean accuracy on the references, shared classes")])
    table.headings += [Heading(name, name) for name in sets]
    table.headings += [Heading("shifted, mean"), Heading("drop", "in distribution minus shifted")]
    found = [[collection.cell(each, SHIFT, name) for name in sets] for each in models]
    columns = [[_mean_of(row, "acc1_reference") for row in found]]
    columns += [[_metric(row[i], "acc1") for row in found] for i in range(len(sets))]
    columns.append([_mean_of(row, "acc1") for row in found])
    columns.append([_mean_of(row, "drop") for row in found])
    names = ["acc1"] * (len(columns) - 1) + ["drop"]
    table.groups = [Group("", _rows([each.name for each in models], columns, names))]
    some = [collection.any_of(SHIFT, name) for name in sets]
    chances = [chance_of(each, "acc1") for each in some]
    levels = [_mean([chance_of(each, "acc1_reference") for each in some]), *chances, _mean(chances), None]
    more = chance_row([(level, "acc1") for level in levels])
    table.groups = [Group("", (*table.groups[0].rows, *more))]
    table.turned = len(sets) > 6
    return table


def shifts(collection: Collection) -> list[Shift]:
    """Each shifted set: accuracy, that of the reference, drop, and effective robustness of four models."""
    found = []
    for dataset in collection.sets(SHIFT):
        models = [each for each in collection.models_of(SHIFT) if collection.cell(each, SHIFT, dataset)]
        results = [collection.cell(each, SHIFT, dataset) for each in models]
        columns: list[list[float | None]] = [
            [_metric(each, name) for each in results] for name in ("acc1_reference", "acc1", "drop")
        ]
        words = [Heading("reference"), Heading("shifted"), Heading("drop")]
        names = ["acc1", "acc1", "drop"]
        pairs = [(x, y) for x, y in zip(columns[0], columns[1], strict=True)]
        effective = _effective(pairs)
        if any(value is not None for value in effective):
            columns.append(effective)
            words.append(Heading("effective robustness", "above the line of the other models"))
            names.append("effective")
        first = collection.any_of(SHIFT, dataset)
        levels = [chance_of(first, name) for name in ("acc1_reference", "acc1")]
        levels += [None] * (len(words) - len(levels))
        rows = _rows([each.name for each in models], columns, names)
        rows += tuple(chance_row([(level, "acc1") for level in levels]))
        table = Table("model", words, [Group("", rows)])
        reference = str(first["details"].get("reference", ""))
        small = f"{first['details'].get('classes', first['classes'])} shared classes"
        found.append(Shift(dataset, reference, small, table, _logits(dataset, models, pairs)))
    return found


def heats(collection: Collection) -> list[Heat]:
    """Each corrupted set: mean accuracy of every kind for every model, and all severities."""
    found = []
    for dataset in collection.sets(CORRUPTION):
        models, grids = [], []
        for model in collection.models_of(CORRUPTION):
            grid = _grid(collection.cell(model, CORRUPTION, dataset))
            if grid:
                models.append(model)
                grids.append(grid)
        if not grids:
            continue
        first = collection.any_of(CORRUPTION, dataset)
        severities = first["details"].get("severities")
        apart = [
            (model.name, _severity_table(grid, severities)) for model, grid in zip(models, grids, strict=True)
        ]
        summary = _kind_table(models, grids, chance_of(first, "mean_corruption_accuracy"))
        found.append(Heat(dataset, first["protocol"], summary, apart))
    return found


def relative_mce(grid: dict[str, list[float]], baseline: dict[str, list[float]]) -> float | None:
    """Mean over the kinds of both of the error sum divided by the baseline's; None where that makes none."""
    kinds = [kind for kind in grid if sum(1 - a for a in baseline.get(kind, ())) > 0]
    ratios = [sum(1 - a for a in grid[kind]) / sum(1 - a for a in baseline[kind]) for kind in kinds]
    return fmean(ratios) if ratios else None


def _kind_table(
    models: Sequence[Model], grids: Sequence[dict[str, list[float]]], chance: float | None
) -> Table:
    """Kinds as rows, models as columns: accuracy over the severities; then the mean, chance and the mCE."""
    table = Table("corruption", [Heading(each.name, each.name) for each in models])
    kinds = list(dict.fromkeys(kind for grid in grids for kind in grid))
    rows = []
    for kind in kinds:
        values = [fmean(grid[kind]) if kind in grid else None for grid in grids]
        rows.append(Row(kind.replace("_", " "), _shaded(values)))
    means = [fmean(fmean(row) for row in grid.values()) for grid in grids]
    rows.append(Row("mean", _cells(means, "acc1")))
    rows += chance_row([(chance, "acc1")] * len(models))
    if len(models) > 1:
        ratios = [relative_mce(grid, grids[0]) for grid in grids]
        cells = tuple(
            Cell("–" if r is None else f"{r:.3f}", m)
            for r, m in zip(ratios, marks(ratios, "mce"), strict=True)
        )
        rows.append(Row("mCE", cells, small=f"{models[0].name} = 1, lower is better"))
    table.groups = [Group("", tuple(rows))]
    return table


def _severity_table(grid: dict[str, list[float]], severities: Any) -> Table:
    most = max(map(len, grid.values()))
    levels = severities if isinstance(severities, list) and len(severities) == most else range(1, most + 1)
    table = Table("corruption", [Heading(f"severity {level}") for level in levels])
    rows = tuple(
        Row(kind.replace("_", " "), _shaded([*row, *[None] * (most - len(row))]))
        for kind, row in grid.items()
    )
    table.groups = [Group("", rows)]
    return table


def _grid(result: Saved | None) -> dict[str, list[float]]:
    """Accuracy by kind and severity; empty where the result keeps none."""
    table = result["details"].get("acc1") if result else None
    if not isinstance(table, dict):
        return {}
    return {
        str(kind): [float(a) for a in row]
        for kind, row in table.items()
        if isinstance(row, list) and row and all(isinstance(a, int | float) for a in row)
    }


def _shaded(values: Sequence[float | None]) -> tuple[Cell, ...]:
    return tuple(Cell(shown(value, "acc1"), shade=value) for value in values)


def _cells(values: Sequence[float | None], metric: str) -> tuple[Cell, ...]:
    return tuple(Cell(shown(v, metric), mark) for v, mark in zip(values, marks(values, metric), strict=True))


def _rows(
    heads: Sequence[str], columns: Sequence[Sequence[float | None]], names: Sequence[str]
) -> tuple[Row, ...]:
    cells = [_cells(column, name) for column, name in zip(columns, names, strict=True)]
    return tuple(Row(head, row) for head, row in zip(heads, zip(*cells, strict=True), strict=True))


def _effective(pairs: Sequence[tuple[float | None, float | None]]) -> list[float | None]:
    known = [i for i, (x, y) in enumerate(pairs) if x is not None and y is not None]
    values = effective_robustness([pairs[i][0] or 0.0 for i in known], [pairs[i][1] or 0.0 for i in known])
    found: list[float | None] = [None] * len(pairs)
    for i, value in zip(known, values, strict=True):
        found[i] = value
    return found


def _logits(
    dataset: str, models: Sequence[Model], pairs: Sequence[tuple[float | None, float | None]]
) -> Markup:
    """The models by the logits of both accuracies, with the line through them; empty for fewer than four."""
    inside = [
        (model, (_logit(x), _logit(y)))
        for model, (x, y) in zip(models, pairs, strict=True)
        if x is not None and y is not None and 0 < x < 1 and 0 < y < 1
    ]
    if len(inside) < 4:
        return Markup("")
    x_scale = _logit_scale("accuracy on the reference, %", [place[0] for _, place in inside])
    y_scale = _logit_scale(f"accuracy on {dataset}, %", [place[1] for _, place in inside])
    fit = logit_fit([_share(x) for _, (x, _) in inside], [_share(y) for _, (_, y) in inside])
    guide: list[tuple[float, float]] = []
    if fit is not None:
        ends = [min(p[0] for _, p in inside), max(p[0] for _, p in inside)]
        guide = [(x, min(max(fit[0] * x + fit[1], y_scale.low), y_scale.high)) for x in ends]
    series = [Series(model.name, (place,), model.tone or 1) for model, place in inside]
    return plot(
        f"accuracy on {dataset} by that on its reference",
        x_scale,
        y_scale,
        series,
        names="beside",
        guide=guide,
    )


def _logit_scale(words: str, values: Sequence[float]) -> Scale:
    """An axis in logits with a little room at both ends."""
    room = 0.15 * (max(values) - min(values)) + 0.1
    low, high = min(values) - room, max(values) + room
    marks_ = tuple((_logit(t), f"{t * 100:g}") for t in LOGIT_TICKS if low <= _logit(t) <= high)
    if len(marks_) < 2:
        marks_ = tuple((v, f"{_share(v) * 100:.1f}") for v in (low, (low + high) / 2, high))
    return Scale(words, marks_, low, high)


def _metric(result: Saved | None, name: str) -> float | None:
    return result["metrics"].get(name) if result else None


def _mean_of(results: Sequence[Saved | None], name: str) -> float | None:
    """The mean over all sets, None unless each has the metric."""
    return _mean([_metric(each, name) for each in results])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
