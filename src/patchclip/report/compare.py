"""The page of a comparison: every difference as a figure and as an interval drawn around zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation._saved import LOWER_IS_BETTER, is_share, task_words
from patchclip.evaluation.compare import ComparedRow, Comparison, Difference
from patchclip.report._page import environment, write_page
from patchclip.report.evaluation.page import METRIC_WORDS
from patchclip.report.evaluation.tables import UNMARKED
from patchclip.report.run_report import versions


@dataclass(frozen=True)
class Strip:
    """One difference: in words, as a drawing (places in per cent of the strip), and what it means.

    Attributes:
        value: the model's own metric.
        apart: difference with its sign; "other images" where the two results are of different images.
        interval: its ends, "" where there are none.
        left, width, at: of the interval and the difference on the strip; None without an interval.
        verdict: "better", "worse", "apart" where neither can be said, or "" where the interval holds 0.
    """

    value: str
    apart: str = ""
    interval: str = ""
    left: float | None = None
    width: float | None = None
    at: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Line:
    """One row of the page."""

    head: str
    small: str
    metric: str
    baseline: str
    strips: tuple[Strip, ...]


def write_comparison(found: Comparison, path: str | Path) -> Path:
    """Writes the page of a comparison; self-contained, without scripts.

    Args:
        found: as `compare` gives it.
        path: an HTML file in a folder that exists.

    Returns:
        The path.

    Raises:
        ConfigError: a name that does not end in .html, or that of a folder.
        DataError: the folder does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise ConfigError(f"output={str(path)!r} must be a file that ends in .html: the comparison is a page")
    if not path.parent.is_dir():
        raise DataError(f"output={str(path)!r}: there is no folder {str(path.parent)!r}, create it first")
    tasks = list(dict.fromkeys(row.task for row in found.rows))
    text = (
        environment()
        .get_template("eval_compare.html")
        .render(
            found=found,
            averages=lines(found.averages, words=True),
            tables=[(task, lines([row for row in found.rows if row.task == task])) for task in tasks],
            versions=versions(),
        )
    )
    return write_page(path, text)


def lines(rows: Sequence[ComparedRow], words: bool = False) -> list[Line]:
    """Rows with their strips on one scale for shares and one for each other metric.

    Args:
        rows: of one table.
        words: whether the rows are tasks, not data sets.
    """
    reach: dict[str, float] = {}
    for row in rows:
        ends = [
            abs(end) for each in row.differences if each for end in (each.low, each.high) if end is not None
        ]
        reach[_scale(row)] = max([reach.get(_scale(row), 0.0), *ends])
    return [
        Line(
            head=task_words(row.task) if words else row.dataset,
            small=", ".join(filter(None, (_sets(row) if words else "", row.how))),
            metric=" + ".join(METRIC_WORDS.get(m, m.replace("_", " ")) for m in row.metric.split(" + ")),
            baseline=_value(row.values[0], row),
            strips=tuple(
                _strip(value, each, row, reach[_scale(row)])
                for value, each in zip(row.values[1:], row.differences[1:], strict=True)
            ),
        )
        for row in rows
    ]


def _sets(row: ComparedRow) -> str:
    return f"{row.sets} set{'s' if row.sets > 1 else ''}"


def _strip(value: float | None, each: Difference | None, row: ComparedRow, reach: float) -> Strip:
    if each is None:
        return Strip(_value(value, row))
    if each.other_images:
        return Strip(_value(value, row), "other images")
    apart = _signed(each.value, row)
    if each.low is None or each.high is None:
        return Strip(_value(value, row), apart)
    reach = reach or 1.0
    left, right, at = (round(50 + 50 * end / reach, 2) for end in (each.low, each.high, each.value))
    better = (each.value > 0) != bool(LOWER_IS_BETTER.search(row.metric))
    verdict = "apart" if UNMARKED.search(row.metric) else "better" if better else "worse"
    verdict = verdict if each.significant else ""
    interval = f"{_signed(each.low, row)} to {_signed(each.high, row)}"
    return Strip(_value(value, row), apart, interval, left, round(right - left, 2), at, verdict)


def _scale(row: ComparedRow) -> str:
    return "share" if _shares(row) else row.metric


def _shares(row: ComparedRow) -> bool:
    return all(map(is_share, row.metric.split(" + ")))


def _value(value: float | None, row: ComparedRow) -> str:
    if value is None:
        return "–"
    return f"{value * 100:.1f}" if _shares(row) else f"{value:.3g}"


def _signed(value: float, row: ComparedRow) -> str:
    """With a sign, in points for shares; nothing but zeros has no sign."""
    text = f"{value * 100:+.1f}" if _shares(row) else f"{value:+.3g}"
    return text.lstrip("+-") if not float(text) else text.replace("-", "−")
