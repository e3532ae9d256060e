"""The page of an adaptation: strips, classes, seeds, and pictures of a set that may have changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from patchclip.data.benchmarks import load_benchmark
from patchclip.engine.adapting.result import Adaptation, Row
from patchclip.engine.adapting.saved import write_result
from patchclip.errors import CheckpointError
from patchclip.report.adapt.page import bars, lines, pictures, seed_table, write_adapt_report
from tests.engine.adapting._sets import write_classes


@pytest.fixture
def found(tmp_path: Path) -> Adaptation:
    benchmark: Any = load_benchmark(write_classes(tmp_path / "sets"), "colours")
    rows = (
        Row("accuracy", (0.25, 0.25), (0.5, 0.7), (0.4, 0.6), (0.1, 0.5)),
        Row("worse", (0.5, 0.5), (0.4, 0.4), (), (-0.2, -0.05)),
        Row("unsure", (0.5, 0.5), (0.4, 0.7), (), (-0.1, 0.2)),
    )
    changed = (
        {"image": 0, "label": 0, "before": 3, "after": 0, "right": True, "seeds": 1.0},
        {"image": 9, "label": 1, "before": 1, "after": 2, "right": False, "seeds": 0.0},
    )
    classes = tuple(
        {"label": i, "name": f"class {i}", "images": 6, "before": 0.5, "after": i / 100} for i in range(70)
    )
    return Adaptation(
        kind="adapter",
        method="gda",
        model="a model",
        dataset="colours",
        settings={"data_root": str(tmp_path / "sets")},
        rows=rows,
        seeds=({"seed": 0, "images": 12, "alpha": 0.1, "seconds": 0.5}, {"seed": 1, "images": 12}),
        classes=classes,
        changed=changed,
        protocol="as asked",
        fingerprint=benchmark.images.fingerprint,
    )


def test_strips_share_one_scale_and_say_what_is_sure(found: Adaptation) -> None:
    better, worse, unsure = lines(found.rows)
    assert (better.verdict, worse.verdict, unsure.verdict) == ("better", "worse", "")
    assert (better.left, better.width, better.at) == (60.0, 40.0, 85.0)  # the reach is 0.5
    assert (worse.left, worse.width) == (30.0, 15.0)
    assert better.values == ("25.0", "50.0 ± 14.1", "60.0 ± 14.1")
    assert better.gain == "+35.0 ± 14.1"
    assert worse.interval == "−20.0 to −5.0"


def test_gains_without_an_interval_span_the_seeds() -> None:
    (line,) = lines([Row("recall", (0.5, 0.4), (0.6, 0.3))])
    assert (line.interval, line.verdict) == ("", "")
    assert (line.left, line.width, line.at) == (0.0, 100.0, 50.0)
    (still,) = lines([Row("recall", (0.5,), (0.5,))])
    assert (still.at, still.gain) == (50.0, "0.0")


def test_classes_that_changed_most_have_bars(found: Adaptation) -> None:
    rows = bars(found)
    assert len(rows) == 60
    assert rows[0]["name"] == "class 69"
    assert rows[-1]["name"] == "class 0"
    assert "class 50" not in {row["name"] for row in rows}
    assert (rows[0]["tone"], rows[-1]["tone"]) == (3, 2)


def test_seeds_tell_what_they_took(found: Adaptation) -> None:
    heads, cells = seed_table(found)
    assert heads == ["seed", "images", "alpha", "seconds", "accuracy", "worse", "unsure"]
    assert cells == [
        ["0", "12", "0.1", "0.50 s", "50.0", "40.0", "40.0"],
        ["1", "12", "–", "–", "70.0", "40.0", "70.0"],
    ]


def test_the_page_shows_changed_images(found: Adaptation, tmp_path: Path) -> None:
    write_result(found, tmp_path / "out")
    page = write_adapt_report(tmp_path / "out").read_text("utf-8")
    assert page.count("data:image/webp") == 2
    assert "Wrong before, right now" in page
    assert "zero-shot: red" in page
    assert "10 others are in result.json" in page
    assert "<script" not in page


def test_images_that_were_left_out_are_told_on_the_page(found: Adaptation, tmp_path: Path) -> None:
    bad = ({"key": "colours/test/<b>3", "reason": "torn"}, {"key": "colours/train/1", "reason": "torn"})
    write_result(replace(found, bad=bad), tmp_path / "out")
    page = write_adapt_report(tmp_path / "out").read_text("utf-8")
    told = "2 images could not be read and were left out, the first: colours/test/&lt;b&gt;3: torn."
    assert told in page
    write_result(found, tmp_path / "out")
    assert "left out" not in write_adapt_report(tmp_path / "out").read_text("utf-8").replace("leaves out", "")


def test_a_set_that_has_changed_has_no_pictures(found: Adaptation, tmp_path: Path) -> None:
    assert "have changed" in pictures(replace(found, fingerprint="other")).message
    gone = replace(found, settings={"data_root": str(tmp_path / "nowhere")})
    assert "cannot be shown" in pictures(gone).message
    assert pictures(replace(found, changed=())).message == ""


def test_a_folder_without_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read as an adaptation"):
        write_adapt_report(tmp_path)
