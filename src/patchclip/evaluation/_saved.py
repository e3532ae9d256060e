"""Results on disk: reads a folder of JSON files, ours and clip_benchmark's, and names the models in it."""

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from patchclip.errors import DataError
from patchclip.evaluation.result import Samples

logger = logging.getLogger(__name__)

MISSING_FILE = "missing.json"
WDS = "wds/"
"""What clip_benchmark puts before the names of WebDataset folders."""

TEXTS = ("dataset", "model", "pretrained", "task", "language")
ORIGINS = ("suite", "protocol", "data_root", "fingerprint")
IDENTITY = ("dataset", "model", "pretrained", "task", "language")
TABLES = ("chance", "clip_benchmark", "details")
NOTES = frozenset(("fewshot_k", "seed", "normalized", "epochs", "C", "weight_decay"))
"""Numbers among the metrics that say how it was measured, not how well the model did."""

LOWER_IS_BETTER = re.compile(r"rank$|^ece$|drop$|_std$|error$|^mce$|^fooled")
BY_PATCHES = "zeroshot_classification_by_patches"
TASKS = (
    "zeroshot_classification",
    BY_PATCHES,
    "zeroshot_retrieval",
    "linear_probe",
    "segmentation",
    "distribution_shift",
    "corruption",
    "typographic",
    "paraphrase",
    "image_caption_selection",
)
"""Tasks in the order of the pages."""

WORDS = {
    "zeroshot_classification": "zero-shot classification",
    BY_PATCHES: "zero-shot classification by patches",
    "zeroshot_retrieval": "zero-shot retrieval",
    "linear_probe": "linear probe",
    "distribution_shift": "distribution shift",
    "typographic": "typographic attack",
    "image_caption_selection": "compositionality",
}

HEADLINES: dict[str, tuple[tuple[str, ...], ...]] = {
    "zeroshot_classification": (("acc1",), ("mean_average_precision",)),
    BY_PATCHES: (("acc1",), ("mean_average_precision",)),
    "zeroshot_retrieval": (
        ("image_retrieval_recall@1", "text_retrieval_recall@1"),
        ("image_retrieval_recall@5", "text_retrieval_recall@5"),
    ),
    "linear_probe": (("lp_acc1",),),
    "segmentation": (("miou",),),
    "distribution_shift": (("acc1",),),
    "corruption": (("mean_corruption_accuracy",),),
    "typographic": (("acc1",),),
    "paraphrase": (("acc1_mean",),),
    "image_caption_selection": (("text_acc",), ("acc",)),
}
"""What stands for a task in one figure: the mean of the first group that a result has."""

Saved = dict[str, Any]


def read_folder(folder: Path) -> list[tuple[Path, Saved]]:
    """The results of a folder, by task, data set and model.

    What is no result is left out with a warning, and so is the older of two files of the same result.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is not a folder: pass the folder that eval wrote (--output)")
    newest: dict[tuple[str, ...], tuple[Path, Saved]] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        if path.name != MISSING_FILE and (result := _read(path)) is not None:
            what = tuple(str(result.get(key)) for key in IDENTITY)
            if what in newest:
                logger.warning("%s is left out: %s is newer", newest[what][0], path)
            newest[what] = (path, result)
    found = list(newest.values())
    name_sets([result for _, result in found])
    return sorted(found, key=lambda each: (task_order(each[1]["task"]), each[1]["dataset"], each[0].name))


def read_missing(folder: Path) -> list[dict[str, str]]:
    """What the evaluation could not use, as (asked, reason); empty where it left no such list."""
    path = folder / MISSING_FILE
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        logger.warning("%s is left out, it is not JSON: %s", path, error)
        return []
    rows = rows if isinstance(rows, list) else []
    return [
        {"asked": str(row.get("asked", "")), "reason": str(row.get("reason", ""))}
        for row in rows
        if isinstance(row, dict)
    ]


def read_samples(path: Path) -> dict[str, Samples]:
    """The outcomes query by query beside a result's JSON file, by metric; empty where there are none.

    Raises:
        DataError: the file is damaged.
    """
    path = path.with_suffix(".safetensors")
    if not path.is_file():
        return {}
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it or evaluate again") from error
    samples = {}
    for name in sorted(stored):
        metric, _, part = name.rpartition(".")
        group = stored.get(f"{metric}.group")
        if part == "values" and group is not None:
            values = stored[name]
            if values.ndim != 1 or group.shape != values.shape:
                raise DataError(
                    f"{path}: {metric} has {len(values)} values, {len(group)} groups; evaluate anew"
                )
            samples[metric] = Samples(values.to(torch.float32), group.to(torch.int64))
    return samples


def scores(result: Saved) -> dict[str, float]:
    """The metrics that say how well the model did."""
    return {name: value for name, value in result["metrics"].items() if name not in NOTES}


def headline_of(result: Saved) -> tuple[str, ...]:
    """The metrics whose mean stands for a result; empty where it has none of them."""
    groups = HEADLINES.get(_base_and_shots(result["task"])[0], ())
    return next((group for group in groups if all(name in result["metrics"] for name in group)), ())


def set_name(result: Saved) -> str:
    """The data set as the pages name it: see `name_sets`."""
    return str(result["set_name"])


def name_sets(*folders: Sequence[Saved]) -> None:
    """Names the data sets of all folders alike, as "set_name" of every result.

    clip_benchmark's "wds/pets" and our "pets" are one name, unless a model of a folder has results of both.
    A language other than English is part of the name.
    """
    apart = set()
    for results in folders:
        datasets = {(model_key(each), each["task"], _in_language(each)) for each in results}
        apart |= {
            (task, name)
            for model, task, name in datasets
            if name.startswith(WDS) and (model, task, name.removeprefix(WDS)) in datasets
        }
    for result in (each for results in folders for each in results):
        name = _in_language(result)
        result["set_name"] = name if (result["task"], name) in apart else name.removeprefix(WDS)


def task_words(task: str) -> str:
    """A task as a person says it: "linear probe, 4 shots"."""
    base, k = _base_and_shots(task)
    words = WORDS.get(base, base.replace("_", " "))
    if how := how_segmented(task) or _method(task):
        return f"{words}, {how}"
    return f"{words}, {k} shot{'s' if k > 1 else ''}" if k else words


def how_segmented(task: str) -> str:
    """What sets a task apart from "segmentation" by the suite's defaults: its method and other options."""
    base, _, how = task.partition("_")
    return re.sub(r"(\d+)images$", r"\1 images", how.replace("+", ", ")) if base == "segmentation" else ""


def _method(task: str) -> str:
    """The dense method that images were classified with by patches, where one was asked for."""
    return task.removeprefix(f"{BY_PATCHES}_") if task.startswith(f"{BY_PATCHES}_") else ""


def is_share(metric: str) -> bool:
    """Whether a metric is a share, shown in per cent."""
    return not re.search(r"rank$|^mce$|^relative|^CIDEr$|^SPICE$", metric)


def task_order(task: str) -> tuple[int, int, str]:
    """Sorts tasks as the pages show them; few-shot probes by their k, unknown tasks last."""
    base, k = _base_and_shots(task)
    return (TASKS.index(base) if base in TASKS else len(TASKS), k, task)


def model_key(result: Saved) -> str:
    """Model and tag, as clip_benchmark's files keep them apart."""
    return ":".join(part for part in (result["model"], result["pretrained"]) if part) or "unnamed"


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Names to show: of a path its last parts, as many as tell the models apart."""
    keys = list(dict.fromkeys(keys))
    names: dict[str, str] = {}
    for key in keys:
        parts = [part for part in re.split(r"[/\\]", key) if part] or [key]
        for many in range(1, len(parts) + 1):
            name = "/".join(parts[-many:])
            others = [other for other in keys if other != key]
            if not any(f"/{other}".replace("\\", "/").rstrip("/").endswith(f"/{name}") for other in others):
                break
        names[key] = name if len(set(names.values()) | {name}) > len(names) else key
    return names


def _read(path: Path) -> Saved | None:
    """A result with every key that the pages use; None where the file is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        logger.warning("%s is left out, it is not JSON that can be read: %s", path, error)
        return None
    if not isinstance(found, dict) or not isinstance(found.get("metrics"), dict) or "dataset" not in found:
        logger.warning("%s is left out: it is no result, which has the keys dataset and metrics", path)
        return None
    result: Saved = dict(found)
    result |= {key: "" if found.get(key) is None else str(found[key]) for key in (*TEXTS, *ORIGINS)}
    result["task"] = result["task"] or "unknown"
    result |= {key: found[key] if isinstance(found.get(key), dict) else {} for key in TABLES}
    result |= {key: _numbers(result[key]) for key in ("chance", "clip_benchmark")}
    result["metrics"] = _numbers(found["metrics"])
    for key in ("images", "classes", "captions", "bad", "seconds"):
        result[key] = found[key] if _is_number(found.get(key)) else None
    return result


def _in_language(result: Saved) -> str:
    name, language = str(result["dataset"]), result["language"]
    return f"{name} ({language})" if language not in ("", "en") else name


def _base_and_shots(task: str) -> tuple[str, int]:
    """ "linear_probe_4shot" as ("linear_probe", 4); 0 for other tasks, without how they segment."""
    if how_segmented(task):
        return "segmentation", 0
    if _method(task):
        return BY_PATCHES, 0
    shots = re.fullmatch(r"(.+)_(\d+)shot", task)
    return (shots[1], int(shots[2])) if shots else (task, 0)


def _numbers(table: dict[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in table.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= sys.float_info.max
