"""Writes docs/catalogue.md from benchmarks/results/catalogue.json: python -m tools.catalogue_page."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "catalogue.json"
TEXT = ROOT / "tools" / "catalogue_page.md"
PAGE = ROOT / "docs" / "catalogue.md"
CLEAR = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Seeds -> standard errors on each side of a mean that hold 95 % of Student's distribution."""

HEAD = "| method | measure | without | with | change | | cost |"
RULE = "| --- | --- | --: | --: | --: | --- | --: |"


def render(content: dict[str, Any]) -> str:
    """The page."""
    methods = sorted(content["methods"].values(), key=lambda each: (each["page"], each["title"]))
    rows = [row for each in methods for row in rows_of(each)]
    asked = [f"**[{each['title']}]({each['page']})** {each['asked']}" for each in methods]
    return TEXT.read_text(encoding="utf-8").format(
        seeds=content["seeds"], table="\n".join([HEAD, RULE, *rows]), asked="\n\n".join(asked)
    )


def rows_of(method: dict[str, Any]) -> list[str]:
    """A row for each measure; the first names the method and its cost."""
    rows = []
    for number, measure in enumerate(method["measures"].values()):
        name = f"[{method['title']}]({method['page']})" if not number else ""
        cost = f"{method['cost']:.2f}" if not number else ""
        rows.append(f"| {name} | {' | '.join(cells(measure))} | {cost} |")
    return rows


def cells(measure: dict[str, Any]) -> list[str]:
    """Measure, mean without, mean with, change and verdict."""
    digits = measure["digits"]
    changes = [b - a for a, b in zip(measure["without"], measure["with"], strict=True)]
    mean, spread = statistics.fmean(changes), statistics.stdev(changes) if len(changes) > 1 else 0.0
    means = [f"{statistics.fmean(measure[side]):.{digits}f}" for side in ("without", "with")]
    shown = f"{mean:+.{digits}f} ± {spread:.{digits}f}"
    return [measure["text"], *means, shown, verdict(measure["better"], mean, spread, len(changes))]


def verdict(better: str, mean: float, spread: float, seeds: int) -> str:
    """In a word: better, worse, no clear change, or nothing where neither is meant."""
    if not better:
        return ""
    if seeds not in CLEAR or abs(mean) <= CLEAR[seeds] * spread / math.sqrt(seeds):
        return "no clear change"
    return "better" if (mean > 0) == (better == "higher") else "worse"


def main() -> None:
    """Writes the page."""
    content = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(render(content), encoding="utf-8")


if __name__ == "__main__":
    main()
