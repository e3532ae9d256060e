import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchclip.data.benchmarks import open_sets
from patchclip.data.sets import Segmented
from patchclip.dense.palette import region_colour
from patchclip.evaluation._segmented_details import encoded
from patchclip.evaluation.compare import compare
from patchclip.evaluation.result import Result
from patchclip.report.compare import write_comparison
from patchclip.report.eval_report import write_eval_report
from patchclip.report.evaluation.data import Collection
from patchclip.report.evaluation.segmentation import (
    COLOURED,
    SegmentedSet,
    colours,
    is_segmentation,
    segmented_sets,
)

from .test_run_report import Page

SET = "scenes/masks"
HOSTILE = "<b>crown</b>"


@pytest.fixture(scope="module")
def scenes() -> Segmented:
    (found,) = open_sets("samples", [SET])
    assert isinstance(found, Segmented)
    return found


@pytest.fixture(scope="module")
def examples(scenes: Segmented) -> list[dict[str, Any]]:
    """Three scenes; the prediction is the mask, shifted by some pixels."""
    rows = []
    for which, image, iou in (("best", 0, 0.9), ("median", 5, 0.5), ("worst", 9, 0.0)):
        mask = scenes.masks[image]
        labels = sorted(set(mask.ravel().tolist()) - {-1})
        row = {"which": which, "image": image, "iou": iou, "mask": encoded(mask)}
        row["predicted"] = encoded(np.roll(mask, 9, axis=1))
        rows.append(row | {"classes": {str(label): scenes.classnames[label] for label in labels}})
    return rows


def result(task: str, model: str, miou: float, examples: list[dict[str, Any]], **more: Any) -> Result:
    details = {
        "method": next((name for name in ("pacl", "raw") if name in task), "naclip"),
        "preset": "default",
        "classes": [
            {"class": HOSTILE, "iou": miou, "accuracy": 0.5, "pixels": 0.25, "predicted": 0.2},
            {"class": "owl", "iou": 0.0, "accuracy": None, "pixels": 0.0005, "predicted": 0.1}
            | {"taken_for": "bear", "taken_share": 0.75},
        ],
        "absent": 1,
        "background": 0,
        "one_label": {"miou": 0.1, "pixel_accuracy": 0.3, "mean_class_accuracy": 0.2},
        "examples": examples,
    }
    metrics = {"miou": miou, "pixel_accuracy": 0.6, "mean_class_accuracy": 0.3}
    chance = {"miou": 0.01, "pixel_accuracy": 0.02, "mean_class_accuracy": 0.02}
    shared = {"images": 216, "classes": 72, "model": model, "suite": "segmentation"} | more
    return Result(SET, task, metrics, chance, details=details, **shared)


def write(folder: Path, examples: list[dict[str, Any]]) -> Path:
    for model, apart in (("runs/one", 0.0), ("runs/two", 0.1)):
        for task, miou in (("segmentation_naclip", 0.2), ("segmentation_pacl", 0.4)):
            result(task, model, miou + apart, examples).save(folder, data_root="samples")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, examples: list[dict[str, Any]]) -> Path:
    return write(tmp_path_factory.mktemp("segmented"), examples)


@pytest.fixture(scope="module")
def found(folder: Path) -> SegmentedSet:
    (found,) = segmented_sets(Collection.read(folder))
    return found


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return write_eval_report(folder).read_text(encoding="utf-8")


def page_of(text: str) -> Page:
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    return page


def page_at(folder: Path) -> Page:
    return page_of(write_eval_report(folder).read_text(encoding="utf-8"))


def test_models_and_methods_stand_beside_chance_and_one_label(
    folder: Path, found: SegmentedSet, text: str
) -> None:
    page = page_of(text)
    assert "<h2>Segmentation</h2>" in text
    assert "<h2>Further results</h2>" not in text
    assert "216 images, 72 classes" in page.text
    assert [(row.name, row.bars[0].text, row.bars[0].mark) for row in found.rows] == [
        ("one, naclip", "20.0", ""),
        ("two, naclip", "30.0", ""),
        ("one, pacl", "40.0", "second"),
        ("two, pacl", "50.0", "best"),
    ]
    assert {(row.bars[0].chance, row.bars[0].blind) for row in found.rows} == {(0.01, 0.1)}
    assert {(row.chance, row.one_label, row.small) for row in found.rows} == {("1.0", "10.0", "")}
    assert found.compared == ["two, pacl", "one, pacl", "two, naclip", "one, naclip"]
    assert [axis.task for axis in Collection.read(folder).axes] == [
        "segmentation_naclip",
        "segmentation_pacl",
    ]


def test_pictures_share_their_colours(found: SegmentedSet, text: str, examples: list[dict[str, Any]]) -> None:
    section = text.split("<h2>Segmentation</h2>")[1].split("</section>")[0]
    assert section.count("<img") == 9
    assert all(uri.startswith("data:image/webp") for uri in re.findall(r'<img src="([^"]+)"', section))
    assert "best, 90" in section
    assert "worst, 0" in section
    names = [name for name, _ in found.examples[0].legend]
    assert set(names) == set(examples[0]["classes"].values()) - {"background"}
    assert len(text) < 300_000


def test_of_images_that_are_all_wrong_none_is_the_best(
    tmp_path: Path, examples: list[dict[str, Any]]
) -> None:
    wrong = [row | {"iou": 0.0} for row in examples]
    result("segmentation", "runs/one", 0.0, wrong).save(tmp_path, data_root="samples")
    page = page_at(tmp_path).text
    assert page.count("one image, 0") == 3
    assert "all images have one mean IoU" in page
    assert "best, 0" not in page


def test_classes_are_in_the_order_of_the_best(found: SegmentedSet, text: str) -> None:
    assert HOSTILE not in text
    assert HOSTILE in page_of(text).text
    assert [(row.name, row.pixels, row.taken_for) for row in found.classes] == [
        (HOSTILE, "25.0\u202f%", ""),
        ("owl", "<0.1\u202f%", "bear (75.0\u202f%)"),
    ]
    assert found.left_out == 72 - 1 - 2
    assert [bar.text for bar in found.classes[0].bars] == ["50.0", "40.0", "30.0", "20.0"]


def test_other_images_or_classes_are_not_ranked_together(tmp_path: Path) -> None:
    folder = write(tmp_path, [])
    other = result("segmentation_raw+background-ignore", "runs/one", 0.9, [], classes=71)
    other.save(folder, data_root="samples")
    (found,) = segmented_sets(Collection.read(folder))
    marked = {row.name: row.bars[0].mark for row in found.rows}
    assert marked["one, raw, background-ignore"] == ""
    assert marked["two, pacl"] == "best"
    small = {row.name: row.small for row in found.rows}
    assert (small["one, raw, background-ignore"], small["two, pacl"]) == ("216 images, 71 classes", "")
    assert "one, raw, background-ignore" not in found.compared


def test_one_model_goes_by_its_method(tmp_path: Path) -> None:
    result("segmentation", "runs/one", 0.2, []).save(tmp_path)
    result("segmentation_raw+step8+9images", "runs/one", 0.2, [], images=9).save(tmp_path)
    result("segmentation_9images", "runs/one", 0.3, [], images=9).save(tmp_path)
    (found,) = segmented_sets(Collection.read(tmp_path))
    assert [(row.name, row.small) for row in found.rows] == [
        ("naclip", "216 images, 72 classes"),
        ("naclip", ""),
        ("raw, step8", ""),
    ]
    assert (found.examples, found.message) == ([], "")
    page_at(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {
            "examples": [
                {"which": "best", "image": 10**6, "iou": 1, "mask": "x", "predicted": "x", "classes": {}}
            ]
        },
        {"examples": [{"which": "best", "image": 0, "iou": 1, "mask": "x", "predicted": "x", "classes": {}}]},
        {"examples": [{}]},
    ],
)
def test_damaged_examples_leave_a_word(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = result("segmentation", "runs/one", 0.2, []).save(tmp_path, data_root="samples")
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"details": saved["details"] | damage}))
    page = page_at(tmp_path)
    assert f"The pictures of {SET} cannot be shown" in page.text


def test_details_of_other_kinds_do_not_stop_the_page(tmp_path: Path) -> None:
    path = result("segmentation", "runs/one", 0.2, []).save(tmp_path, data_root="samples")
    saved = json.loads(path.read_text())
    for details in ({}, {"classes": 3, "one_label": [], "examples": "x", "absent": "y", "background": "z"}):
        path.write_text(json.dumps(saved | {"details": details}))
        page_at(tmp_path)


def test_a_set_that_is_gone_leaves_a_word(tmp_path: Path, examples: list[dict[str, Any]]) -> None:
    result("segmentation", "runs/one", 0.2, examples).save(tmp_path, data_root=str(tmp_path / "gone"))
    page = page_at(tmp_path)
    assert f"The pictures of {SET} cannot be shown" in page.text


def test_colours_go_to_the_largest_classes_of_the_mask_first() -> None:
    mask = np.repeat(np.arange(-1, 5), np.arange(6, 0, -1))[None]
    predicted = np.repeat(np.arange(4, 12), np.arange(1, 9))[None]
    names = {str(i): f"c{i}" for i in range(12)}
    numbers, legend = colours(mask, predicted, names, background=0)
    assert numbers[:2].tolist() == [0, 0]  # not scored, background
    assert numbers[2:].tolist() == [1, 2, 3, 4, 8, 8, 8, 8, 7, 6, 5]
    assert [name for name, _ in legend] == [*("c1", "c2", "c3", "c4", "c11", "c10", "c9"), "4 others"]
    assert len(legend) == COLOURED + 1
    assert legend[0][1] == "rgb({} {} {})".format(*region_colour(1))
    everything, _ = colours(mask, mask, {}, background=-1)
    assert everything[1] == 1
    nothing, empty = colours(np.full((1, 1), -1), np.zeros((1, 1), np.int64), {}, background=0)
    assert (nothing.tolist(), empty) == ([0, 0], [])
    _, eight = colours(np.arange(8)[None], np.arange(8)[None], {}, background=-1)
    assert [name for name, _ in eight] == [f"class {i}" for i in range(8)]


def test_tasks_of_the_suite_are_known() -> None:
    assert is_segmentation("segmentation")
    assert is_segmentation("segmentation_naclip+step4")
    assert not is_segmentation("zeroshot_classification")
    assert not is_segmentation("segmentations")


def test_the_comparison_has_a_table_a_method(folder: Path, tmp_path: Path) -> None:
    page = page_of(
        write_comparison(compare([folder], draws=10), tmp_path / "compare.html").read_text("utf-8")
    )
    for words in ("Segmentation, naclip", "Segmentation, pacl", "mIoU", "pixel accuracy"):
        assert words in page.text
