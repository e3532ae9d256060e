"""Segmentation on the evaluation page: scores beside chance and one label an image, pictures, every class."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image

from patchclip.data.benchmarks import open_sets
from patchclip.data.sets import Segmented
from patchclip.dense.overlay import draw_overlay
from patchclip.dense.palette import region_colour
from patchclip.errors import DataError, PatchclipError
from patchclip.evaluation._reading import UNREADABLE
from patchclip.evaluation._saved import Saved, how_segmented, task_order
from patchclip.evaluation._segmented_details import decoded
from patchclip.report.evaluation.data import Collection
from patchclip.report.evaluation.sections import Bar
from patchclip.report.evaluation.tables import marks, shown, size_words
from patchclip.report.gallery import data_uri

logger = logging.getLogger(__name__)

TASK = "segmentation"
METRICS = (("miou", "mIoU"), ("pixel_accuracy", "pixel accuracy"), ("mean_class_accuracy", "class accuracy"))
SIDE = 288
"""Pixels of the longer side of a picture."""

COLOURED = 7
"""Classes of a picture with a colour of their own; the others share one more."""

COMPARED = 4
"""Rows whose classes stand side by side."""


@dataclass(frozen=True)
class Scores:
    """One model and method on a set.

    Attributes:
        name: its heading.
        small: its images and classes, where other rows have more of that kind.
        chance, one_label: mIoU of a random label for each pixel, and of one label for each image.
        bars: one for each metric; the diamond is one label an image.
    """

    name: str
    small: str
    chance: str
    one_label: str
    bars: list[Bar]


@dataclass(frozen=True)
class ClassRow:
    """One class: its share of the pixels, a bar for each row of scores, and what it is taken for."""

    name: str
    pixels: str
    bars: list[Bar]
    taken_for: str


@dataclass(frozen=True)
class Example:
    """An image, its mask and the prediction in the same colours, with the classes that they stand for."""

    which: str
    iou: float
    image: str
    mask: str
    predicted: str
    legend: list[tuple[str, str]]


@dataclass
class SegmentedSet:
    """What the page shows of one set.

    Attributes:
        dataset: its name.
        small: its size in words.
        rows: models and methods.
        compared: names of those whose classes are compared, the best first.
        classes: in order of the best one's IoU; left_out says how many more there are.
        examples: of the best one.
        message: why there are none, "" where there are.
    """

    dataset: str
    small: str
    rows: list[Scores]
    compared: list[str] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    left_out: int = 0
    examples: list[Example] = field(default_factory=list)
    message: str = ""

    @property
    def alike(self) -> bool:
        """Whether the examples are all of one IoU: a model that finds nothing has no best image."""
        return len(self.examples) > 1 and len({each.iou for each in self.examples}) == 1


def is_segmentation(task: str) -> bool:
    """Whether a task is one of the segmentation suite."""
    return task == TASK or bool(how_segmented(task))


def segmented_sets(collection: Collection) -> list[SegmentedSet]:
    """Every segmentation set with the scores of all models and methods on it."""
    tasks = sorted(filter(is_segmentation, collection.tasks), key=task_order)
    found = []
    for dataset in sorted({name for task in tasks for name in collection.sets(task)}):
        cells = [
            (_name(model.name, cell, len(collection.models)), cell)
            for task in tasks
            for model in collection.models_of(task)
            if (cell := collection.cell(model, task, dataset)) is not None
        ]
        alike = max(_alike(cells), key=len)
        small = size_words(alike[0][1])
        entry = SegmentedSet(dataset, small, _rows(cells, small))
        ranked = sorted(alike, key=lambda each: -each[1]["metrics"].get("miou", 0.0))
        entry.compared = [name for name, _ in ranked[:COMPARED]]
        entry.classes, entry.left_out = _classes([cell for _, cell in ranked[:COMPARED]])
        try:
            entry.examples = _examples(ranked[0][1])
        except (PatchclipError, KeyError, TypeError, IndexError, *UNREADABLE) as error:
            logger.warning("the report has no pictures of %s: %s", dataset, error)
            entry.message = f"The pictures of {dataset} cannot be shown: {error}"
        found.append(entry)
    return found


def _alike(cells: Sequence[tuple[str, Saved]]) -> list[list[tuple[str, Saved]]]:
    """Results of as many images and classes: what can be ranked."""
    groups: dict[tuple[Any, Any], list[tuple[str, Saved]]] = {}
    for each in cells:
        groups.setdefault((each[1]["images"], each[1]["classes"]), []).append(each)
    return list(groups.values())


def _name(model: str, result: Saved, models: int) -> str:
    """A row's heading: the model where there are several, the method and what else was asked for."""
    how = re.sub(r"(^|, )\d+ images$", "", how_segmented(result["task"]))  # stands below, or above the table
    method = str(result["details"].get("method", ""))
    known = "" if how.partition(",")[0] == method else method
    return ", ".join(part for part in (model if models > 1 else "", known, how) if part) or model


def _rows(cells: Sequence[tuple[str, Saved]], size: str) -> list[Scores]:
    """A row for each result, in their order; marks are made among those that can be ranked."""
    found: dict[int, Scores] = {}
    for name, cell in cells:
        own = size_words(cell)
        levels = (cell["chance"].get("miou"), _number(_table(cell, "one_label").get("miou")))
        chance, one_label = (shown(level, "miou") for level in levels)
        found[id(cell)] = Scores(name, "" if own == size else own, chance, one_label, [])
    for group in _alike(cells):
        for metric, _ in METRICS:
            values = [cell["metrics"].get(metric) for _, cell in group]
            for (_, cell), value, mark in zip(group, values, marks(values, metric), strict=True):
                blind = _number(_table(cell, "one_label").get(metric))
                bar = Bar(value, shown(value, metric), mark, cell["chance"].get(metric), blind)
                found[id(cell)].bars.append(bar)
    return list(found.values())


def _classes(cells: Sequence[Saved]) -> tuple[list[ClassRow], int]:
    """Every class that one of the results kept, and how many others the set has."""
    tables = [{str(row.get("class")): row for row in _listed(cell, "classes")} for cell in cells]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = []
    for name in names:
        found = [table.get(name, {}) for table in tables]
        values = [_number(row.get("iou")) for row in found]
        bars = [
            Bar(value, shown(value, "miou"), mark, None, None)
            for value, mark in zip(values, marks(values, "miou"), strict=True)
        ]
        first = found[0]
        taken = (
            f"{first['taken_for']} ({_percent(first.get('taken_share'))})" if first.get("taken_for") else ""
        )
        rows.append(ClassRow(name, _percent(next(filter(None, found), {}).get("pixels")), bars, taken))
    absent = cells[0]["details"].get("absent")
    absent = absent if isinstance(absent, int) else 0
    return rows, max(0, int(cells[0]["classes"] or 0) - absent - len(rows)) if rows else 0


def _examples(result: Saved) -> list[Example]:
    """The pictures that a result kept; none where it does not say where its images are."""
    kept = _listed(result, "examples")
    if not kept or not result["data_root"]:
        return []
    opened = open_sets(result["data_root"], [result["dataset"]])
    sets = [each for each in opened if isinstance(each, Segmented) and each.name == result["dataset"]]
    if not sets:
        raise DataError(f"{result['dataset']} is no segmentation set under {result['data_root']!r}")
    background = result["details"].get("background")
    found = [_example(sets[0], row, background if isinstance(background, int) else -1) for row in kept]
    if len(found) > 1 and len({each.iou for each in found}) == 1:  # also of results that call one the best
        found = [replace(each, which="one image") for each in found]
    return found


def _example(benchmark: Segmented, row: dict[str, Any], background: int) -> Example:
    index = int(row["image"])
    if not 0 <= index < len(benchmark):
        raise DataError(
            f"image {index} must be in [0, {len(benchmark) - 1}]: the set has changed, evaluate again"
        )
    mask, predicted = decoded(row["mask"]), decoded(row["predicted"])
    small = benchmark.images[index].resize((mask.shape[1], mask.shape[0]), Image.Resampling.LANCZOS)
    number, legend = colours(mask, predicted, row["classes"], background)
    words = tuple(name for name, _ in legend)
    drawn = [
        data_uri(draw_overlay(small, number[found + 1], words, opacity=0.7, legend=False), SIDE)
        for found in (mask, predicted)
    ]
    return Example(str(row["which"]), float(row["iou"]), data_uri(small, SIDE), drawn[0], drawn[1], legend)


def colours(
    mask: Int64[np.ndarray, "h w"],
    predicted: Int64[np.ndarray, "ph pw"],
    names: dict[str, str],
    background: int,
) -> tuple[Int64[np.ndarray, "v"], list[tuple[str, str]]]:
    """Numbers for the classes of two maps, those of the mask first, and a legend.

    Args:
        mask: class of every pixel, -1 for none.
        predicted: the same as the model has it.
        names: of the classes by number, as text.
        background: class that stays without a colour, -1 for none.

    Returns:
        numbers: for class + 1, the label of an overlay: 0 without a colour.
        legend: name and CSS colour of each label.
    """
    seen = [each for each in dict.fromkeys([*_ranked(mask), *_ranked(predicted)]) if each != background]
    apart = len(seen) if len(seen) <= COLOURED + 1 else COLOURED
    numbers = np.zeros(max(background, *seen, 0) + 2, np.int64)
    for i, label in enumerate(seen):
        numbers[label + 1] = min(i, apart) + 1
    words = [names.get(str(label), f"class {label}") for label in seen[:apart]]
    if len(seen) > apart:
        words.append(f"{len(seen) - apart} others")
    legend = [(name, "rgb({} {} {})".format(*region_colour(i + 1))) for i, name in enumerate(words)]
    return numbers, legend


def _ranked(classes: Int64[np.ndarray, "h w"]) -> list[int]:
    """The classes of a map, those with most pixels first."""
    present, pixels = np.unique(classes, return_counts=True)
    return [label for label in present[np.argsort(-pixels, kind="stable")].tolist() if label >= 0]


def _table(result: Saved, key: str) -> dict[str, Any]:
    found = result["details"].get(key)
    return found if isinstance(found, dict) else {}


def _listed(result: Saved, key: str) -> list[dict[str, Any]]:
    rows = result["details"].get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _percent(value: Any) -> str:
    share = _number(value)
    if share is None:
        return "–"
    return "<0.1\u202f%" if 0 < share < 0.001 else f"{share * 100:.1f}\u202f%"
