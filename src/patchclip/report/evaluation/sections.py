"""What the evaluation page shows of classification, probes and compositionality beside their tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from markupsafe import Markup

from patchclip.evaluation._saved import Saved, task_order
from patchclip.report.evaluation.charts import Scale, Series, percent_scale, plot
from patchclip.report.evaluation.data import Collection, Model
from patchclip.report.evaluation.tables import Cell, Group, Heading, Row, Table, chance_of, marks, shown

CLASSIFICATION, SELECTION, PROBE = "zeroshot_classification", "image_caption_selection", "linear_probe"
CONFUSED_MODELS = 4
EMPTY_BIN = 3
"""A bin of a reliability diagram with fewer images says nothing and is left out."""


@dataclass(frozen=True)
class Doubts:
    """How a set's classes and confidences went wrong.

    Attributes:
        dataset: its name.
        reliability: a drawing, empty where no model left bins.
        errors: (name, ECE) of every model that has one.
        worst: (name, rows) of every model.
        confusion: the table of the best model, None where nothing is confused.
        confused: the name of that model.
    """

    dataset: str
    reliability: Markup
    errors: list[tuple[str, str]]
    worst: list[tuple[str, list[dict[str, Any]]]]
    confusion: Table | None
    confused: str


@dataclass(frozen=True)
class Bar:
    """A share as a bar, its chance level, what is reached blind, and clip_benchmark's where that differs."""

    value: float | None
    text: str
    mark: str
    chance: float | None
    blind: float | None
    theirs: float | None = None


@dataclass(frozen=True)
class Composed:
    """The categories of one set: a row of bars for each, and their mean."""

    dataset: str
    models: list[str]
    rows: list[tuple[str, str, list[Bar]]]
    mean: list[Bar]

    @property
    def blind(self) -> bool:
        """Whether any category has a text-only guess."""
        return any(bar.blind is not None for _, _, bars in self.rows for bar in bars)

    def blind_words(self, bars: Sequence[Bar]) -> str:
        """The text-only score of a row: it belongs to the questions, so every model has the same."""
        return shown(next((bar.blind for bar in bars if bar.blind is not None), None), "text_acc")


def doubts(collection: Collection) -> list[Doubts]:
    """Reliability, worst classes and confusion of every classification set that left them."""
    found = []
    for dataset in collection.sets(CLASSIFICATION):
        cells = [(model, collection.cell(model, CLASSIFICATION, dataset)) for model in collection.models]
        present = [(model, cell) for model, cell in cells if cell]
        best, result = max(present, key=lambda each: each[1]["metrics"].get("acc1", 0.0))
        confusion = _confusion(result["details"].get("confusion"))
        worst = [
            (model.name, _listed(cell["details"].get("worst_classes")))
            for model, cell in present[:CONFUSED_MODELS]
        ]
        worst = [each for each in worst if each[1]]
        errors = [
            (model.name, f"{cell['metrics']['ece'] * 100:.1f}")
            for model, cell in present
            if "ece" in cell["metrics"]
        ]
        reliability = _reliability(dataset, present)
        if reliability or worst or confusion:
            found.append(Doubts(dataset, reliability, errors, worst, confusion, best.name))
    return found


def few_shot(collection: Collection) -> list[tuple[str, Markup]]:
    """Accuracy over the images of each class, for each set probed with two numbers of them or more."""
    tasks = [task for task in collection.tasks if task_order(task)[0] == task_order(PROBE)[0]]
    shots = {task: task_order(task)[1] for task in tasks if task_order(task)[1]}
    found = []
    for dataset in sorted({name for task in shots for name in collection.sets(task)}):
        series = []
        for model in collection.models:
            cells = [(k, collection.cell(model, task, dataset)) for task, k in shots.items()]
            points = [(k, c) for k, c in sorted(cells, key=lambda e: e[0]) if c and "lp_acc1" in c["metrics"]]
            if len(points) > 1 and model.tone:
                series.append(_shots_series(model, points))
        if series:
            chance = chance_of(collection.any_of(list(shots), dataset), "lp_acc1")
            found.append((dataset, _shots_plot(dataset, sorted(shots.values()), series, chance)))
    return found


def compositions(collection: Collection) -> list[Composed]:
    """The categories of each set, with chance and the best text-only guess beside them."""
    groups: dict[str, list[str]] = {}
    for name in collection.sets(SELECTION):
        groups.setdefault(name.rpartition("/")[0] or name, []).append(name)
    models = collection.models_of(SELECTION)
    found = []
    for dataset, names in groups.items():
        rows = []
        for name in names:
            results = [collection.cell(each, SELECTION, name) for each in models]
            for metric in _selection_metrics(results):
                words = name.rpartition("/")[2] if "/" in name else "all"
                small = METRIC_WORDS[metric] or _question_words(collection.any_of(SELECTION, name))
                rows.append((words.replace("_", " "), small, _bars(results, metric)))
        columns = list(zip(*(bars for _, _, bars in rows), strict=True))
        mean = [_mean_bar(column) for column in columns] if len(names) > 1 else []
        found.append(Composed(dataset, [each.name for each in models], rows, _marked(mean)))
    return found


METRIC_WORDS = {
    "text_acc": "",
    "macro_text_acc": "mean over relations",
    "image_acc": "image score",
    "acc": "group score",
}


def _question_words(result: Saved) -> str:
    count = result["details"].get("questions")
    return f"{count} question{'s' if count != 1 else ''}" if isinstance(count, int) else ""


def _selection_metrics(results: Sequence[Saved | None]) -> list[str]:
    """The caption's score alone; those of the images and groups too where images compete."""
    known = {name for each in results if each for name in each["metrics"]}
    pairs = ("text_acc", "macro_text_acc")
    wanted = ("text_acc", "image_acc", "acc") if "image_acc" in known else pairs
    return [name for name in wanted if name in known] or [name for name in ("acc",) if name in known]


def _bars(results: Sequence[Saved | None], metric: str) -> list[Bar]:
    values = [each["metrics"].get(metric) if each else None for each in results]
    bars = []
    for each, value, mark in zip(results, values, marks(values, metric), strict=True):
        blind = each["details"].get("blind") if each else None
        best = blind.get("best") if isinstance(blind, dict) and metric == "text_acc" else None
        chance = each["chance"].get(metric) if each else None
        known = float(best) if isinstance(best, int | float) else None
        theirs = each["clip_benchmark"].get(metric) if each else None
        bars.append(Bar(value, shown(value, metric), mark, chance, known, theirs))
    return bars


def _mean_bar(bars: Sequence[Bar]) -> Bar:
    """The mean of a model over the categories; none where one is missing."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == len(values) else None

    value = mean([bar.value for bar in bars])
    chance, blind = mean([bar.chance for bar in bars]), mean([bar.blind for bar in bars])
    return Bar(value, shown(value, "text_acc"), "", chance, blind)


def _marked(bars: Sequence[Bar]) -> list[Bar]:
    found = marks([bar.value for bar in bars], "text_acc")
    return [
        Bar(bar.value, bar.text, mark, bar.chance, bar.blind) for bar, mark in zip(bars, found, strict=True)
    ]


def _reliability(dataset: str, present: Sequence[tuple[Model, Saved]]) -> Markup:
    """Accuracy over confidence; the dashed line is a model that knows how sure it may be."""
    series = []
    for model, result in present:
        bins = _listed(result["details"].get("reliability"))
        full = [
            row for row in bins if all(_known(row.get(key)) for key in ("count", "confidence", "accuracy"))
        ]
        full = [row for row in full if row["count"] >= EMPTY_BIN]
        if full and model.tone:
            points = tuple((row["confidence"], row["accuracy"]) for row in full)
            counts = tuple(int(row["count"]) for row in full)
            series.append(Series(model.name, points, model.tone, counts=counts))
    if not series:
        return Markup("")
    marks_ = tuple((i / 5, f"{i * 20}") for i in range(6))
    x, y = Scale("confidence, %", marks_, 0.0, 1.0), Scale("accuracy, %", marks_, 0.0, 1.0)
    return plot(f"reliability on {dataset}", x, y, series, names="apart", guide=[(0.0, 0.0), (1.0, 1.0)])


def _confusion(table: Any) -> Table | None:
    """Right classes as rows, guesses as columns, shaded by the share of the row."""
    if not isinstance(table, dict) or not table.get("classes") or not table.get("counts"):
        return None
    names = [str(name) for name in table["classes"]]
    headings = [Heading(name, name) for name in names]
    if len(table["counts"][0]) > len(names):
        headings.append(Heading("others", "every other class"))
    rows = []
    for i, counts in enumerate(table["counts"]):
        total = max(1, sum(counts))
        cells = [
            Cell(str(count) if count else "·", "best" if i == j else "", shade=count / total)
            for j, count in enumerate(counts)
        ]
        rows.append(Row(names[i], tuple(cells)))
    return Table("right class", headings, [Group("", tuple(rows))], turned=True)


def _known(value: Any) -> bool:
    return isinstance(value, int | float)


def _listed(rows: Any) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _shots_series(model: Model, points: Sequence[tuple[int, Saved]]) -> Series:
    spread = []
    for _, result in points:
        std = result["details"].get("std")
        spread.append(float(std.get("lp_acc1", 0.0)) if isinstance(std, dict) else 0.0)
    drawn = tuple((math.log2(k), result["metrics"]["lp_acc1"]) for k, result in points)
    return Series(model.name, drawn, model.tone, tuple(spread))


def _shots_plot(dataset: str, shots: Sequence[int], series: Sequence[Series], chance: float | None) -> Markup:
    """Accuracy over the images of each class; chance is dashed."""
    places = {k: math.log2(k) for k in shots}
    x = Scale(
        "training images of each class",
        tuple((place, str(k)) for k, place in places.items()),
        min(places.values()),
        max(places.values()),
    )
    values = [y + d for s in series for (_, y), e in zip(s.points, s.spread, strict=True) for d in (e, -e)]
    guide = [] if chance is None else [(x.low, chance), (x.high, chance)]
    values += [chance] if chance is not None else []
    return plot(f"few-shot probes on {dataset}", x, percent_scale("top-1, %", values), series, guide=guide)
