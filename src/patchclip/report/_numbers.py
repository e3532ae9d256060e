"""Numbers as the report words them: percentages, durations, multiples of chance, and the headline."""

import math
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from patchclip.report._run import RunRecord

CLASSIFICATION, RETRIEVAL = "zeroshot_classification", "zeroshot_retrieval"
BY_PATCHES = "zeroshot_classification_by_patches"
HEADLINE_RECALL = "image_retrieval_recall@5"
MISSING = "–"


@dataclass(frozen=True)
class Figure:
    """One number of the headline: value, what it is, and a line that puts it in proportion."""

    value: str
    label: str
    note: str


@dataclass(frozen=True)
class Score:
    """One cell: a metric in [0, 1], its chance level and its standard error over the queries."""

    value: float
    chance: float
    error: float

    @property
    def against_chance(self) -> str:
        """ "7.3× chance (3.8 %)", or "≈ chance" where the value is within two standard errors of it."""
        near = abs(self.value - self.chance) <= 2 * self.error
        return f"{'≈' if near else times(self.value, self.chance)} chance ({percent(self.chance)})"


def score(result: dict[str, Any], metric: str) -> Score | None:
    """A metric of an evaluation file, None where the file does not have it."""
    value, chance = result.get("metrics", {}).get(metric), result.get("chance", {}).get(metric)
    if value is None or chance is None:
        return None
    trials = result.get("captions") if metric.startswith("image_retrieval") else result.get("images")
    spread = max(value * (1 - value), chance * (1 - chance))
    return Score(value, chance, math.sqrt(spread / max(1, trials or 1)))


def percent(value: float | None, digits: int = 1) -> str:
    """0.3125 as "31.2 %" (with a narrow no-break space)."""
    return MISSING if value is None else f"{round(value * 100, digits) + 0.0:.{digits}f}\u202f%"


def times(value: float, chance: float) -> str:
    """How often chance fits into the value: "7.3×"."""
    if chance <= 0:
        return MISSING
    ratio = value / chance
    return f"{ratio:.0f}×" if ratio >= 20 else f"{ratio:.1f}×"


def count(value: float | None) -> str:
    """12345 as "12 345" (narrow no-break spaces)."""
    return MISSING if value is None else f"{round(value):,}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """372 as "6 min 12 s"; from ten minutes on without the seconds."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes >= 10:
        return f"{round(seconds / 60)} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def kept_share(record: RunRecord) -> float | None:
    """Mean share of patches seen in training; None where the run did not log it."""
    dropped = [y for _, y in record.curve("mask_ratio")]
    return 1 - mean(dropped) if dropped else None


def headline(record: RunRecord) -> list[Figure]:
    """The main figures; those that the run did not leave are absent."""
    figures = [
        _mean_figure(record, CLASSIFICATION, "acc1", "zero-shot top-1"),
        _mean_figure(record, RETRIEVAL, HEADLINE_RECALL, "caption finds its image in the first 5"),
        *_training_figures(record),
    ]
    return [figure for figure in figures if figure is not None]


def _mean_figure(record: RunRecord, task: str, metric: str, label: str) -> Figure | None:
    scores = [
        found for result in record.evals if result.get("task") == task and (found := score(result, metric))
    ]
    if not scores:
        return None
    error = math.sqrt(sum(s.error**2 for s in scores)) / len(scores)
    whole = Score(mean(s.value for s in scores), mean(s.chance for s in scores), error)
    sets = f"mean of {len(scores)} sets" if len(scores) > 1 else "one set"
    return Figure(percent(whole.value), label, f"{whole.against_chance}, {sets}")


def _training_figures(record: RunRecord) -> list[Figure | None]:
    summary, rates = record.summary, [y for _, y in record.curve("images_per_s")]
    seconds = summary.get("seconds") or max((y for _, y in record.curve("seconds")), default=None)
    rate = summary.get("images_per_s") or (median(rates) if rates else None)
    share = kept_share(record)
    steps = f"{count(summary.get('step'))} steps, {count(summary.get('pairs_seen'))} pairs seen"
    name = record.config.masking.get("name", "") if record.config else ""
    return [
        None if seconds is None else Figure(duration(seconds), "of training", steps if summary else ""),
        None
        if rate is None
        else Figure(
            count(rate), "images a second", "in training" if record.head else "in training, masks included"
        ),
        None
        if share is None or record.head
        else Figure(
            percent(share, 0), "of the patches seen", "no mask" if share == 1 else f"chosen by {name}"
        ),
    ]
