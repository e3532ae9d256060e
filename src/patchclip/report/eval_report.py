"""The report of an evaluation: one HTML file with everything inside, and one CSV file."""

import csv
import os
import re
from pathlib import Path
from typing import Any

from patchclip.errors import DataError
from patchclip.evaluation._saved import read_folder
from patchclip.report._page import environment, write_page
from patchclip.report.evaluation.data import Collection
from patchclip.report.evaluation.page import page_context

FIRST_COLUMNS = ("dataset", "model", "pretrained", "task", "language", "model_fullname")
LAST_COLUMNS = ("suite", "images", "classes", "captions", "bad", "seconds")
METRIC_ORDER = re.compile(r"^(acc|mean|lp_|image_|text_)")


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """The results in a folder, ours and clip_benchmark's; other files are left out with a warning.

    Raises:
        DataError: the folder does not exist.
    """
    return [result for _, result in read_folder(Path(folder))]


def write_eval_report(folder: str | Path, title: str = "") -> Path:
    """Writes `folder`/report.html: tables, charts and pictures of every result in the folder.

    The file is self-contained: nothing is fetched and no script runs.

    Args:
        folder: what `patchclip eval --output` wrote, or a folder of clip_benchmark's JSON files.
        title: heading of the page; "" takes the folder's name, of RUN/eval that of the run.

    Returns:
        Path of the report.

    Raises:
        DataError: the folder does not exist or holds no result.
    """
    folder = Path(folder)
    collection = Collection.read(folder)
    if not collection.results:
        raise DataError(f"{str(folder)!r} holds no results: write some with patchclip eval --output {folder}")
    place = folder.resolve()
    name = place.parent.name if place.name == "eval" else place.name
    context = page_context(collection, title or name)
    text = environment().get_template("eval_report.html").render(context)
    return write_page(folder / "report.html", text)


def write_csv(folder: str | Path) -> Path:
    """Writes `folder`/results.csv: a row for each JSON file, as `clip_benchmark build` does.

    Differs: the columns have a fixed order, there from a set; details stay in the JSON files; a text that a
    spreadsheet would run as a formula gets a ' before it.

    Raises:
        DataError: the folder does not exist.
    """
    folder = Path(folder)
    results = read_results(folder)
    names = {name for result in results for name in result["metrics"]}
    metrics = sorted(names, key=lambda name: (not METRIC_ORDER.match(name), _padded(name)))
    path = folder / "results.csv"
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FIRST_COLUMNS, *map(_harmless, metrics), *LAST_COLUMNS])
        for result in results:
            row = result | {"model_fullname": f"{result['model']} {result['pretrained']}"}
            first = [_harmless(row[name]) for name in FIRST_COLUMNS]
            last = [_harmless(row[name]) for name in LAST_COLUMNS]
            writer.writerow([*first, *(result["metrics"].get(name, "") for name in metrics), *last])
    partial.replace(path)
    return path


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    text = str(value)
    return (
        f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    )


def _padded(name: str) -> str:
    """A name that sorts recall@5 before recall@10."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(6), name)
