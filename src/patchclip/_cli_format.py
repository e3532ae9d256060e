"""What the command line prints, as lines of text."""

import argparse
import json
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from patchclip import registry
from patchclip._config_file import list_keys
from patchclip.config import TrainConfig

SHOWN = 3
MAIN = {
    "zeroshot_classification": ("acc1", "acc5", "mean_average_precision"),
    "zeroshot_retrieval": ("image_retrieval_recall@5", "text_retrieval_recall@5"),
    "linear_probe": ("lp_acc1", "lp_acc5"),
    "image_caption_selection": ("text_acc", "macro_text_acc", "image_acc"),
    "distribution_shift": ("acc1", "acc1_reference", "drop"),
    "corruption": ("mean_corruption_accuracy", "clean_accuracy", "mce"),
    "typographic": ("acc1", "acc1_clean", "fooled"),
    "paraphrase": ("acc1_mean", "acc1_std", "agreement"),
}
"""Metrics of each task that the terminal shows; the files have all."""

PLAIN_NUMBERS = ("C", "weight_decay", "fewshot_k", "seed", "epochs", "normalized", "relative", "mce")
"""Metrics that are no shares."""


def finish(arguments: argparse.Namespace, summary: dict[str, Any], *lines: str) -> None:
    """Prints the result: one JSON object with --json, the lines otherwise."""
    print(json.dumps(summary) if arguments.json else "\n".join(lines))


def eval_scores(folder: Path) -> list[dict[str, Any]]:
    """The results that an evaluation left in a folder."""
    found = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]
    return [score for score in found if isinstance(score, dict) and "metrics" in score]


def score_name(score: dict[str, Any]) -> str:
    """The data set, and the task where it is not the plain one."""
    task = score.get("task", "zeroshot")
    plain = task.startswith(("zeroshot", "image_caption")) and "_by_patches" not in task
    return str(score["dataset"]) if plain else f"{score['dataset']} {score['task']}"


def score_lines(scores: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line a result: its main metrics and their chance levels; several models have a line above theirs."""
    models = list(dict.fromkeys((score.get("model"), score.get("pretrained")) for score in scores))
    wide = max([24, *(len(score_name(score)) for score in scores)])
    for model in models:
        if len(models) > 1:
            yield ":".join(filter(None, map(str, model)))
        for score in scores:
            if (score.get("model"), score.get("pretrained")) == model:
                yield f"{score_name(score):<{wide}} {', '.join(_shown(score))}"


def _shown(score: dict[str, Any]) -> Iterator[str]:
    """The main metrics of a result: those of its task, or its first."""
    metrics, chance, theirs = (score.get(key, {}) for key in ("metrics", "chance", "clip_benchmark"))
    task = re.sub(r"_\d+shot$", "", str(score.get("task", "")))
    chosen = [name for name in MAIN.get(task, ()) if name in metrics] or list(metrics)[:SHOWN]
    for name in chosen:
        value = metrics[name]
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        notes = [f"chance {chance[name]:.1%}"] if name in chance else []
        notes += [f"clip_benchmark {theirs[name]:.1%}"] if name in theirs else []
        text = f"{value:.1%}" if _is_share(name) else f"{value:.4g}"
        yield f"{name} {text} ({'; '.join(notes)})" if notes else f"{name} {text}"


def _is_share(metric: str) -> bool:
    """Whether a metric is a share, written in per cent."""
    return not metric.endswith("rank") and metric not in PLAIN_NUMBERS


def missing_lines(missing: Iterable[Any]) -> Iterator[str]:
    """What was asked for and could not be evaluated."""
    for each in missing:
        yield f"{'damaged' if each.damaged else 'missing'}: {each.asked} ({each.reason})"


def columns(entries: Sequence[registry.Entry]) -> Iterator[str]:
    """Name, summary and reference side by side, wrapped to the terminal."""
    first = max((len(entry.name) for entry in entries), default=0) + 2
    space = max(40, min(shutil.get_terminal_size((100, 24)).columns, 160) - first - 3)
    third = min(max((len(entry.source) for entry in entries), default=0), space // 2)
    second = min(max((len(entry.summary) for entry in entries), default=0), space - third)
    for entry in entries:
        left = textwrap.wrap(entry.summary, second, break_on_hyphens=False) or [""]
        right = textwrap.wrap(entry.source, third, break_on_hyphens=False) if entry.source else []
        for name, summary, source in zip_longest([entry.name], left, right, fillvalue=""):
            yield f"{name:<{first}}{summary:<{second}}   {source}".rstrip()


def settings_help() -> str:
    """Every configuration key with its default and one line, grouped by section."""
    lines = ["settings (KEY=VALUE, the value is YAML; the default is in brackets):"]
    section = None
    for doc in list_keys(TrainConfig):
        if doc.path.partition(".")[0] != section:
            section = doc.path.partition(".")[0]
            lines.append("")
        default = json.dumps(doc.default) if not isinstance(doc.default, str) else doc.default
        text = f"{doc.text} [{default}]"
        first = f"  {doc.path:<26}"
        indent = " " * len(first)
        lines += textwrap.wrap(
            text, 98, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
        )
    return "\n".join(
        [*lines, "", "example: patchclip train --config demo train.epochs=5 masking.name=random"]
    )


def mask_lines(sheet: dict[str, Any]) -> Iterator[str]:
    """The figures of `patchclip masks --compare` as a table, and what was left out."""
    rows = [row for row in sheet["strategies"] if "entropy_bits" in row]
    labels = [_label(row) for row in rows]
    wide = max(map(len, labels), default=0) + 2
    if rows:
        yield f"{'':<{wide}}{'foreground':>11}{'edges':>8}{'entropy':>10}{'overlap':>9}{'ms/image':>10}"
    for label, row in zip(labels, rows, strict=True):
        shares = [row["foreground_kept"]["mean"], row["edges_kept"]["mean"], row["overlap"]]
        foreground, edges, overlap = ("-" if share is None else f"{share:.1%}" for share in shares)
        entropy, time = row["entropy_bits"]["mean"], row["milliseconds"]
        yield f"{label:<{wide}}{foreground:>11}{edges:>8}{entropy:>6.2f} bit{overlap:>9}{time:>10.2f}"
    for reason in dict.fromkeys(sheet["left_out"].values()):
        names = ", ".join(name for name, why in sheet["left_out"].items() if why == reason)
        yield f"left out: {names} ({reason})"


def _label(row: dict[str, Any]) -> str:
    """A strategy as it is written on the command line."""
    options = ";".join(f"{key}={value}" for key, value in row["options"].items())
    return f"{row['name']}:{options}" if options else str(row["name"])
