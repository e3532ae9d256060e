"""What the command line prints, as lines of text."""

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from patchclip import registry
from patchclip._config_file import list_keys
from patchclip.config import TrainConfig


def score_lines(scores: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Each metric of each data set beside its chance level."""
    for score in scores:
        chance = score.get("chance", {})
        for metric, value in score["metrics"].items():
            level = f"   chance {chance[metric]:6.1%}" if metric in chance else ""
            yield f"{score['dataset']:<24} {metric:<28} {value:6.1%}{level}"


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
