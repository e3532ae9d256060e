import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation.compare import compare
from patchclip.report.compare import write_comparison
from patchclip.report.eval_report import read_results, write_csv, write_eval_report
from patchclip.report.evaluation.data import Collection
from patchclip.report.evaluation.tables import by_set

from ._results import MODELS, write_results
from .test_run_report import Page


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_results(tmp_path_factory.mktemp("made") / "evals")
    write_eval_report(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "evals"))


def page_of(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert "script" not in page.tags
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    return page


def test_the_page_stands_alone_and_shows_every_suite(made: Path) -> None:
    path = made / "report.html"
    text = path.read_text(encoding="utf-8")
    page = page_of(path)
    assert not re.search(r"url\(|@import|<script", text)
    assert path.stat().st_size < 500_000
    assert [p.name for p in made.iterdir() if p.name.endswith(".part")] == []
    headings = (
        "At a glance|Zero-shot classification|Linear probe|Zero-shot retrieval|Robustness|Compositionality"
    )
    for heading in headings.split("|"):
        assert f"<h2>{heading}</h2>" in text
    assert page.tags.count("svg") >= 6
    for words in ("3 models", "few training images", "gaussian noise", "text only", "wds/food101", "mCE"):
        assert words.lower() in page.text.lower()


def test_what_comes_from_data_is_escaped(made: Path) -> None:
    text = (made / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in text
    assert "truncated" in text
    assert "clip_benchmark gives 91.3: ties count for the model there" in text


def test_a_missing_set_is_a_dash_and_the_mean_says_over_how_many(made: Path) -> None:
    table = by_set(Collection.read(made), "zeroshot_classification", "acc1")
    assert table is not None
    assert [heading.text for heading in table.headings] == [
        *("=zs_hostile", "zs_clipart", "zs_emoji", "zs_photo", "average")
    ]
    rows = {row.head: [cell.text for cell in row.cells] for row in table.groups[0].rows}
    assert rows["ViT-B-32:openai"][3] == "–"
    assert rows["chance"] == ["6.2"] * 5
    lacking = next(row for row in table.groups[0].rows if row.head == "ViT-B-32:openai").cells[-1]
    assert lacking.mark == ""
    assert dict(table.notes)[lacking.sign] == "Over 3 of 4 sets."
    assert any("clip_benchmark gives 64.0" in text for _, text in table.notes)


def test_the_headline_is_over_the_sets_that_all_have(made: Path) -> None:
    axis = Collection.read(made).axis("zeroshot_classification")
    assert axis is not None
    assert axis.sets == ("=zs_hostile", "zs_clipart", "zs_emoji")
    names = [model.name for model in Collection.read(made).models]
    assert names == ["ViT-B-32:openai", "dense-0", "pgs-0"]
    assert axis.values[1] == pytest.approx((0.35 + 0.55 + 0.65) / 3)
    assert axis.chance == pytest.approx(1 / 16)


def test_a_set_and_its_copy_of_clip_benchmark_are_both_shown(tmp_path: Path) -> None:
    for dataset, share in (("wds/s1", 0.25), ("s1", 0.5), ("wds/s2", 0.75)):
        found = {"dataset": dataset, "model": "m", "task": "zeroshot_classification", "images": 10}
        (tmp_path / f"{dataset[-2:]}{share}.json").write_text(
            json.dumps(found | {"metrics": {"acc1": share}})
        )
    table = by_set(Collection.read(tmp_path), "zeroshot_classification", "acc1")
    assert table is not None
    assert [heading.text for heading in table.headings] == ["s1", "s2", "wds/s1", "average"]
    assert [cell.text for cell in table.groups[0].rows[0].cells] == ["50.0", "75.0", "25.0", "50.0"]
    assert "3 data sets, 30 images" in page_of(write_eval_report(tmp_path)).text.replace("\n", " ")


def test_files_of_clip_benchmark_alone_make_a_page(tmp_path: Path) -> None:
    for dataset, task, metrics in (
        ("wds/food101", "zeroshot_classification", {"acc1": 0.8, "acc5": float("nan")}),
        (
            "flickr30k",
            "zeroshot_retrieval",
            {"image_retrieval_recall@5": 0.9, "text_retrieval_recall@5": 0.95},
        ),
        ("cifar10", "captioning", {"Bleu_4": 0.3, "CIDEr": 1.2}),
    ):
        theirs = {"dataset": dataset, "model": "ViT-B-32", "pretrained": "openai", "language": "en"}
        theirs |= {"task": task, "metrics": metrics}
        (tmp_path / f"{task}.json").write_text(json.dumps(theirs))
    page = page_of(write_eval_report(tmp_path, "theirs"))
    for words in ("food101", "80.0", "flickr30k", "95.0", "CIDEr", "1.2", "1 model,"):
        assert words in page.text


def test_other_files_are_left_out_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    count = len(read_results(folder))
    (folder / "broken.json").write_text("{")
    (folder / "foreign.json").write_text('{"metrics": 3}')
    (folder / "deep.json").write_text('{"metrics": ' + "[" * 100_000)
    assert len(read_results(folder)) == count
    assert "broken.json" in caplog.text
    assert "foreign.json" in caplog.text
    assert "deep.json" in caplog.text


def test_damaged_details_do_not_stop_the_page(folder: Path) -> None:
    for path in folder.glob("*.json"):
        result = json.loads(path.read_text())
        if isinstance(result, dict):
            result["details"] = {
                **{
                    "worst_classes": [3],
                    "confusion": {"classes": ["a"]},
                    "reliability": "x",
                    "acc1": {"fog": 1},
                },
                **{
                    "caption_to_images": [{"caption": "not there"}],
                    "failing": [{"image": 10**6, "right": "x"}],
                },
                **{"blind": 3, "std": None},
            }
            path.write_text(json.dumps(result))
    assert "cannot be shown" in page_of(write_eval_report(folder)).text


def test_an_empty_or_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no results"):
        write_eval_report(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        write_eval_report(tmp_path / "nowhere")


def test_the_csv_has_a_row_a_file_and_no_formula(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "evals"))
    path = write_csv(folder)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(read_results(folder))
    assert list(rows[0])[:6] == ["dataset", "model", "pretrained", "task", "language", "model_fullname"]
    names = list(rows[0])
    assert names.index("image_retrieval_recall@5") < names.index("image_retrieval_recall@10")
    hostile = [row for row in rows if "hostile" in row["dataset"]]
    assert {row["dataset"] for row in hostile} == {"'=zs_hostile"}
    row = next(
        r
        for r in rows
        if (r["dataset"], r["model"], r["task"]) == ("zs_clipart", *MODELS[:1], "zeroshot_classification")
    )
    assert float(row["acc1"]) == pytest.approx(0.55)
    assert row["lp_acc1"] == ""
    assert row["model_fullname"] == f"{MODELS[0]} "
    assert path.read_bytes() == write_csv(folder).read_bytes()


def test_one_model_has_no_marks_and_no_radar(tmp_path: Path) -> None:
    text = write_eval_report(write_results(tmp_path / "one", MODELS[:1])).read_text(encoding="utf-8")
    assert 'class="best"' not in text.replace("heat counts", "").split("right class")[0]
    assert 'class="chart radar"' not in text


def test_the_page_of_a_comparison(made: Path, tmp_path: Path) -> None:
    found = compare([made], draws=50)
    path = write_comparison(found, tmp_path / "compare.html")
    page = page_of(path)
    text = path.read_text(encoding="utf-8")
    assert page.text.count("Zero-shot classification") == 1
    assert 'class="strip"' in text
    for left, width in re.findall(r'class="strip"><i style="left:([\d.-]+)%;width:([\d.-]+)%', text):
        assert float(left) >= -0.02
        assert float(left) + float(width) <= 100.02
    assert "other images" not in page.text.lower()
    with pytest.raises(ConfigError, match=r"\.html"):
        write_comparison(found, tmp_path / "compare.txt")
    with pytest.raises(DataError, match="no folder"):
        write_comparison(found, tmp_path / "nowhere" / "compare.html")


def test_the_page_of_a_comparison_names_sets_of_other_images(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("zs_emoji_*.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"fingerprint": result["model"]}))
    page = page_of(write_comparison(compare([folder], draws=50), tmp_path / "compare.html"))
    assert "not compared and in no mean" in page.text
    assert page.text.count("other images") > 5
