"""The page of an adaptation: figures beside zero-shot, classes, and the images whose answer changed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from patchclip.data.benchmarks import load_benchmark
from patchclip.engine.adapting.result import Adaptation, Row
from patchclip.engine.adapting.saved import read_result
from patchclip.errors import DataError, PatchclipError
from patchclip.evaluation._reading import UNREADABLE
from patchclip.report._page import environment, write_page
from patchclip.report.gallery import THUMBNAIL, data_uri
from patchclip.report.run_report import versions

logger = logging.getLogger(__name__)

CLASSES = 60
"""Classes that have a bar: those that changed most."""

PLAIN = ("seed", "images", "validation_images", "captions", "held_out", "alpha", "seconds")
WORDS = {"validation_images": "to choose on", "held_out": "captions held out"}


@dataclass(frozen=True)
class Line:
    """One measure on the page: values in words, and the gain as an interval on a strip.

    Attributes:
        measure: what it is.
        values: zero-shot, linear probe ("" without one) and adapted.
        gain: in points, with its sign and its spread over the seeds.
        interval: over draws of the images, "" without one.
        left, width, at: of interval and gain on the strip, in per cent of it.
        verdict: "better" or "worse" where the interval leaves out 0, else "".
    """

    measure: str
    values: tuple[str, str, str]
    gain: str
    interval: str
    left: float
    width: float
    at: float
    verdict: str


@dataclass(frozen=True)
class Picture:
    """An image whose answer changed: itself, its class, both answers, and how many seeds answer it right."""

    uri: str
    label: str
    before: str
    after: str
    share: float


@dataclass
class Pictures:
    """Images that are right now, those that are wrong now, and why there are none."""

    gained: list[Picture] = field(default_factory=list)
    lost: list[Picture] = field(default_factory=list)
    message: str = ""


def write_adapt_report(folder: str | Path) -> Path:
    """Writes `folder`/report.html of what `patchclip adapt` left there; self-contained, without scripts.

    Raises:
        CheckpointError: the folder holds no figures of an adaptation.
    """
    folder = Path(folder)
    found = read_result(folder)
    text = (
        environment()
        .get_template("adapt_report.html")
        .render(
            found=found,
            lines=lines(found.rows),
            probed=any(row.probe for row in found.rows),
            seeds=seed_table(found),
            bars=bars(found),
            more=max(0, len(found.classes) - CLASSES),
            pictures=pictures(found),
            versions=versions(),
        )
    )
    return write_page(folder / "report.html", text)


def lines(rows: Sequence[Row]) -> list[Line]:
    """Rows with their gains on one scale."""
    spans = [row.interval or (min(row.gains), max(row.gains)) for row in rows]
    reach = max((abs(end) for span in spans for end in span), default=0.0) or 1.0
    found = []
    for row, (low, high) in zip(rows, spans, strict=True):
        left, right, at = (round(50 + 50 * end / reach, 2) for end in (low, high, fmean(row.gains)))
        sure = row.interval is not None and (low > 0 or high < 0)
        found.append(
            Line(
                measure=row.measure,
                values=(_shares(row.zero_shot), _shares(row.probe), _shares(row.adapted)),
                gain=_points(fmean(row.gains)) + _spread(row.gains),
                interval=f"{_points(low)} to {_points(high)}" if row.interval else "",
                left=left,
                width=round(right - left, 2),
                at=at,
                verdict=("better" if low > 0 else "worse") if sure else "",
            )
        )
    return found


def seed_table(found: Adaptation) -> tuple[list[str], list[list[str]]]:
    """Headings and cells: what each seed learned from, took, and gave."""
    names = [name for name in PLAIN if any(name in seed for seed in found.seeds)]
    heads = [WORDS.get(name, name) for name in names] + [row.measure for row in found.rows]
    cells = []
    for i, seed in enumerate(found.seeds):
        told = [_plain(name, seed.get(name)) for name in names]
        cells.append([*told, *(f"{row.adapted[i] * 100:.1f}" for row in found.rows)])
    return heads, cells


def bars(found: Adaptation) -> list[dict[str, Any]]:
    """Classes that changed most, the largest gain first, with places on a bar in per cent."""
    chosen = sorted(found.classes, key=lambda each: -abs(each["after"] - each["before"]))[:CLASSES]
    chosen.sort(key=lambda each: (each["before"] - each["after"], each["name"]))
    return [
        {
            "name": each["name"],
            "images": each["images"],
            "after": round(100 * each["after"], 1),
            "before": round(min(99.0, 100 * each["before"]), 1),
            "words": f"{100 * each['before']:.0f} → {100 * each['after']:.0f}",
            "tone": 3 if each["after"] > each["before"] else 2 if each["after"] < each["before"] else 0,
        }
        for each in chosen
    ]


def pictures(found: Adaptation) -> Pictures:
    """The changed images, from the set as it lies on disk now."""
    made = Pictures()
    if not found.changed:
        return made
    try:
        benchmark: Any = load_benchmark(found.settings["data_root"], found.dataset)
        if benchmark.images.fingerprint != found.fingerprint:
            raise DataError("its files have changed since: adapt again")
        names = benchmark.classnames
        for each in found.changed:
            picture = Picture(
                uri=data_uri(benchmark.images[each["image"]], THUMBNAIL),
                label=names[each["label"]],
                before=names[each["before"]],
                after=names[each["after"]],
                share=each["seeds"],
            )
            (made.gained if each["right"] else made.lost).append(picture)
    except (PatchclipError, KeyError, IndexError, AttributeError, *UNREADABLE) as error:
        logger.warning("the report has no pictures of %s: %s", found.dataset, error)
        made.message = f"The pictures of {found.dataset} cannot be shown: {error}"
    return made


def _shares(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {stdev(values) * 100:.1f}" if len(set(values)) > 1 else ""
    return f"{fmean(values) * 100:.1f}{spread}"


def _spread(values: Sequence[float]) -> str:
    return f" ± {stdev(values) * 100:.1f}" if len(values) > 1 else ""


def _points(value: float) -> str:
    text = f"{value * 100:+.1f}"
    return text.lstrip("+-") if not float(text) else text.replace("-", "−")


def _plain(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name == "seconds":
        return f"{value:.2f} s"
    return f"{value:g}"
