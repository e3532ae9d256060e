"""The parts of the evaluation page, put together for its templates."""

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from markupsafe import Markup

from patchclip.evaluation._saved import WDS, Saved, is_share, scores, set_name, task_order, task_words
from patchclip.report.evaluation import pictures, robustness, sections, segmentation, tables
from patchclip.report.evaluation.charts import Series, radar
from patchclip.report.evaluation.data import MOST_COLOURED, Axis, Collection, Model
from patchclip.report.run_report import versions

RETRIEVAL_SPANS = (("caption → image", 5), ("image → caption", 5))
RETRIEVAL_COLUMNS = tuple(
    (f"{found}_retrieval_{metric}", words)
    for found in ("image", "text")
    for metric, words in (
        *((f"recall@{k}", f"R@{k}") for k in (1, 5, 10)),
        ("median_rank", "median rank"),
        ("mean_rank", "mean rank"),
    )
)
CLASSIFICATION_FURTHER = (
    ("acc5", "Top-5 accuracy"),
    ("mean_per_class_recall", "Mean per-class recall"),
    ("mean_average_precision", "Mean average precision (sets with several labels an image)"),
    ("ece", "Expected calibration error (lower is better)"),
)
SHOWN_APART = ("zeroshot_classification", "zeroshot_retrieval", "distribution_shift", "corruption")
SPOKES = {
    "zeroshot_classification": "classification",
    "zeroshot_classification_by_patches": "by patches",
    "zeroshot_retrieval": "retrieval",
    "linear_probe": "linear probe",
    "distribution_shift": "shift",
    "typographic": "typographic",
    "image_caption_selection": "composition",
}
ROBUST = ("typographic", "paraphrase")
METRIC_WORDS = {
    **{f"image_retrieval_recall@{k}": f"caption → image R@{k}" for k in (1, 5, 10)},
    **{f"text_retrieval_recall@{k}": f"image → caption R@{k}" for k in (1, 5, 10)},
    "text_acc": "right caption",
    "ece": "ECE",
    "mean_per_class_recall": "mean per class",
    "acc1": "top-1",
    "acc5": "top-5",
    "acc1_clean": "top-1 without",
    "acc1_mean": "top-1, mean",
    "acc1_std": "standard deviation",
    "acc1_worst": "worst wording",
    "agreement": "agreement",
    "drop": "drop",
    "fooled": "fooled",
    "fooled_clean": "fooled without",
    "lp_acc1": "top-1",
    "miou": "mIoU",
    "lp_acc5": "top-5",
    "lp_mean_per_class_recall": "mean per class",
    "templates_acc1_mean": "own prompts, mean",
    "templates_acc1_std": "own prompts, deviation",
    "templates_acc1_worst": "own prompts, worst",
    "templates_agreement": "own prompts, agreement",
}


def page_context(collection: Collection, title: str) -> dict[str, Any]:
    """Everything that the templates of the page use, by name."""
    results = collection.results
    return dict(
        title=title,
        collection=collection,
        headline=_headline(collection),
        radar=_radar(collection),
        bars=_bars(collection),
        sets=_sets(results),
        images=sum(_sets(results).values()),
        seconds=sum(result["seconds"] or 0 for result in results),
        retrieval=_retrieval(collection),
        retrieved=pictures.retrieved(collection),
        shift_average=robustness.shift_average(collection),
        shifts=robustness.shifts(collection),
        heats=robustness.heats(collection),
        segmented=segmentation.segmented_sets(collection),
        segmentation_metrics=segmentation.METRICS,
        compositions=sections.compositions(collection),
        failing=pictures.failing(collection),
        protocols=_protocols(results),
        skipped=_skipped(results),
        date=datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        versions=versions(),
        **_by_labels(collection),
    )


def _by_labels(collection: Collection) -> dict[str, Any]:
    """The parts of the page about classes, and the tasks whose tables list all their metrics."""
    probes = [task for task in collection.tasks if task.startswith("linear_probe")]
    shots = [task for task in probes if task_order(task)[1]]
    apart = (*SHOWN_APART, *probes, sections.SELECTION)
    plain = {
        task: (task, collection.of(task)[0]["protocol"], _plain(collection, task))
        for task in collection.tasks
        if task not in apart and not segmentation.is_segmentation(task)
    }
    return {
        "classification": tables.by_set(collection, "zeroshot_classification", "acc1"),
        "further": [
            (words, table)
            for metric, words in CLASSIFICATION_FURTHER
            if (table := tables.by_set(collection, "zeroshot_classification", metric))
        ],
        "doubts": sections.doubts(collection),
        "probe": tables.by_set(collection, "linear_probe", "lp_acc1"),
        "shots": tables.by_shots(collection, shots) if shots else None,
        "few_shot": sections.few_shot(collection),
        "robust": [row for task, row in plain.items() if task in ROBUST],
        "others": [row for task, row in plain.items() if task not in ROBUST],
    }


def _headline(collection: Collection) -> tables.Table | None:
    if not collection.axes:
        return None
    words = [task_words(axis.task) for axis in collection.axes]
    return tables.headline_table(collection.models, collection.axes, words)


def _radar(collection: Collection) -> Markup:
    """Drawn for two to six models over at least three tasks that all of them have."""
    axes = [axis for axis in collection.axes if None not in axis.values and is_share(axis.metric)]
    tops = [max(value or 0.0 for value in axis.values) or 1.0 for axis in axes]
    if len(axes) < 3 or not 2 <= len(collection.models) <= MOST_COLOURED:
        return Markup("")
    series = [
        Series(
            model.name,
            tuple((float(k), (axis.values[i] or 0.0) / tops[k]) for k, axis in enumerate(axes)),
            model.tone,
        )
        for i, model in enumerate(collection.models)
    ]
    names = [
        (SPOKES.get(axis.task, task_words(axis.task)), f"{top * 100:.0f}")
        for axis, top in zip(axes, tops, strict=True)
    ]
    return radar("tasks relative to the best model", names, series)


def _retrieval(collection: Collection) -> tables.Table | None:
    if not collection.of("zeroshot_retrieval"):
        return None
    return tables.by_metric(collection, "zeroshot_retrieval", RETRIEVAL_COLUMNS, RETRIEVAL_SPANS)


def _plain(collection: Collection, task: str) -> tables.Table:
    """All metrics of a task that has no table of its own shape."""
    names = dict.fromkeys(name for result in collection.of(task) for name in scores(result))
    columns = [(name, METRIC_WORDS.get(name, name.replace("_", " "))) for name in names]
    return tables.by_metric(collection, task, columns)


def _bars(collection: Collection) -> list[tuple[Axis, list[tuple[Model, str, float, float | None]]]]:
    """For each task the models as (model, value in words, value and chance in per cent)."""
    if not 2 <= len(collection.models) <= MOST_COLOURED:
        return []
    found = []
    for axis in collection.axes:
        chance = None if axis.chance is None else round(min(axis.chance, 0.99) * 100, 2)
        rows = [
            (
                model,
                tables.shown(value, axis.metric),
                round(min(max(value or 0.0, 0.0), 1.0) * 100, 2),
                chance,
            )
            for model, value in zip(collection.models, axis.values, strict=True)
        ]
        found.append((axis, rows))
    return found


def _sets(results: Iterable[Saved]) -> dict[str, int]:
    """Data sets and their images as far as results tell: the most that one scored; kinds are no sets."""
    most: dict[str, int] = {}
    for result in results:
        base = result["dataset"].rpartition("/")[0] if result["task"] == sections.SELECTION else ""
        name = base or result["dataset"]
        name = name if set_name(result).startswith(WDS) else name.removeprefix(WDS)
        most[name] = max(most.get(name, 0), int(result["images"] or 0))
    return most


def _protocols(results: Iterable[Saved]) -> list[dict[str, Any]]:
    """How each task was measured, and how long it took in all."""
    found: dict[tuple[str, str], list[Saved]] = {}
    for result in results:
        found.setdefault((result["task"], result["protocol"]), []).append(result)
    return [
        {
            "task": task,
            "protocol": protocol,
            "sets": sorted({each["dataset"] for each in among}),
            "seconds": sum(each["seconds"] or 0.0 for each in among),
        }
        for (task, protocol), among in found.items()
    ]


def _skipped(results: Iterable[Saved]) -> list[tuple[str, int, list[list[str]]]]:
    """(set, how many images, the first few as [key, reason]), each set once."""
    found: dict[str, tuple[str, int, list[list[str]]]] = {}
    for result in results:
        if result["bad"] and result["dataset"] not in found:
            rows = result.get("bad_first")
            rows = rows if isinstance(rows, list) else []
            first = [[str(cell) for cell in row] for row in rows if isinstance(row, list)]
            found[result["dataset"]] = (result["dataset"], int(result["bad"]), first)
    return list(found.values())
