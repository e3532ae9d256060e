import json
import os
import re
from pathlib import Path

import pytest

from patchclip.report.eval_report import read_results
from patchclip.report.evaluation.charts import Series, percent_scale, plot, radar
from patchclip.report.evaluation.data import Collection
from patchclip.report.evaluation.robustness import heats, relative_mce, shift_average, shifts
from patchclip.report.evaluation.sections import few_shot
from patchclip.report.evaluation.tables import by_set, by_shots, chance_of, marks

from ._results import MODELS, write_results


@pytest.mark.parametrize(
    ("values", "metric", "expected"),
    [
        ([0.1, 0.3, 0.2], "acc1", ["", "best", "second"]),
        ([0.1, 0.3, 0.2], "ece", ["best", "", "second"]),
        ([0.1, 0.3], "acc1", ["", "best"]),
        ([0.3, 0.30001, 0.2], "acc1", ["best", "best", "second"]),
        ([0.3, 0.3], "acc1", ["", ""]),
        ([None, 0.3, 0.2], "acc1", ["", "best", ""]),
        ([0.5], "acc1", [""]),
        ([12.0, 3.0, 4.0], "image_retrieval_mean_rank", ["", "best", "second"]),
        ([0.1, 0.3, 0.2], "drop", ["", "", ""]),
        ([0.1, 0.3, 0.2], "fooled_clean", ["", "", ""]),
    ],
)
def test_marks(values: list[float | None], metric: str, expected: list[str]) -> None:
    assert marks(values, metric) == expected


def test_every_kind_of_table_has_its_chance_level(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "evals", MODELS[:2])
    for path in folder.glob("zs_emoji_lineart_*distribution_shift*.json"):
        path.unlink()
    collection = Collection.read(folder)
    average = shift_average(collection)
    assert average is not None
    (shift,), (heat,) = shifts(collection), heats(collection)
    tables = {"average": average, "shift": shift.table, "corruption": heat.summary}
    tables["shots"] = by_shots(collection, [f"linear_probe_{k}shot" for k in (1, 4, 16)])
    found = {
        name: [cell.text for cell in row.cells]
        for name, table in tables.items()
        for row in table.groups[0].rows
        if row.kind == "chance"
    }
    assert found == {
        "average": ["8.3", "8.3", "8.3", "–"],
        "shift": ["8.3", "8.3", "–"],
        "corruption": ["6.2", "6.2"],
        "shots": ["6.2", "6.2", "6.2"],
    }
    ((_, drawing),) = few_shot(collection)
    assert 'class="dashed"' in drawing


@pytest.mark.parametrize(
    ("metric", "captions", "expected"),
    [
        ("image_retrieval_mean_rank", 500, 50.5),
        ("image_retrieval_median_rank", 500, 50.5),
        ("text_retrieval_mean_rank", 500, None),
        ("text_retrieval_mean_rank", 100, 50.5),
        ("text_retrieval_recall@1", 500, 0.01),
        ("image_retrieval_recall@1", 500, None),
    ],
)
def test_the_chance_of_a_rank_is_the_middle_where_one_entry_is_right(
    metric: str, captions: int, expected: float | None
) -> None:
    result = {"images": 100, "captions": captions, "chance": {"text_retrieval_recall@1": 0.01}}
    assert chance_of(result, metric) == expected


def test_a_marker_has_the_area_of_its_count_and_is_faint_for_few() -> None:
    axis = percent_scale("x", [0.0, 1.0])
    points = ((0.1, 0.2), (0.3, 0.4), (0.5, 0.6))
    text = plot("p", axis, axis, [Series("<a>", points, 1, counts=(100, 25, 4))], names="apart")
    sizes = [float(size) for size in re.findall(r"scale\(([\d.]+)\)", text)]
    assert sizes[0] == pytest.approx(2 * sizes[1])
    assert sizes[2] < sizes[1]
    assert text.count("dot faint") == 1
    assert "a&gt;" not in text
    assert "a&gt;" in plot("p", axis, axis, [Series("<a>", points, 1)])


def test_labels_of_the_radar_fit_its_width() -> None:
    words = [
        "classification",
        "retrieval",
        "linear probe",
        "shift",
        "corruption",
        "typographic",
        "paraphrase",
    ]
    for count in range(3, len(words) + 1):
        series = [Series("a", tuple((float(i), 1.0) for i in range(count)), 1)]
        text = radar("r", [(word, "36") for word in words[:count]], series)
        width = int(re.findall(r'viewBox="0 0 (\d+)', text)[0])
        labels = re.findall(r'text-anchor="(\w+)"><tspan x="([\d.]+)">([^<]+)', text)
        assert len(labels) == count
        for side, x, word in labels:
            wide = 16 * 0.6 * len(word) * {"middle": 0.5, "start": 1.0, "end": 1.0}[side]
            assert side == "start" or float(x) > wide
            assert side == "end" or float(x) + wide < width


def test_the_footnote_names_why_clip_benchmark_differs(tmp_path: Path) -> None:
    for metric in ("acc1", "mean_average_precision"):
        theirs = {"dataset": metric, "model": "m", "task": "zeroshot_classification"}
        theirs |= {"metrics": {metric: 0.5}, "clip_benchmark": {metric: 0.4}}
        (tmp_path / f"{metric}.json").write_text(json.dumps(theirs))
    notes = {}
    for metric in ("acc1", "mean_average_precision"):
        table = by_set(Collection.read(tmp_path), "zeroshot_classification", metric)
        assert table is not None
        ((_, notes[metric]),) = table.notes
    assert notes["acc1"].endswith("%: ties count for the model there.")
    assert notes["mean_average_precision"].endswith(
        "%: ties, and a class without a right image counts as 0 there."
    )


def test_relative_mce_is_a_mean_of_ratios_of_errors() -> None:
    grid, baseline = {"fog": [0.8, 0.6], "snow": [0.5, 0.5]}, {"fog": [0.4, 0.4], "snow": [0.0, 0.0]}
    assert relative_mce(grid, baseline) == pytest.approx((0.6 / 1.2 + 1.0 / 2.0) / 2)
    assert relative_mce(baseline, baseline) == pytest.approx(1.0)
    assert relative_mce(grid, {"fog": [1.0, 1.0]}) is None


def test_of_two_files_of_one_result_the_newer_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value, when in (("new", 0.5, 2_000_000_000), ("old", 0.25, 1_000_000_000)):
        path = tmp_path / f"{name}.json"
        row = {"dataset": "pets", "model": "m", "pretrained": "", "task": "zeroshot_classification"}
        path.write_text(json.dumps(row | {"metrics": {"acc1": value}, "language": "en"}))
        os.utime(path, (when, when))
    (result,) = read_results(tmp_path)
    assert result["metrics"]["acc1"] == 0.5
    assert "old.json is left out" in caplog.text
