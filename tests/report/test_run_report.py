import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from patchclip.errors import DataError
from patchclip.report._numbers import Score, duration, headline, kept_share, percent, score, times
from patchclip.report._run import read_run
from patchclip.report.run_report import write_report

from ._runs import HOSTILE, make_run, write_set

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects tags, references and text, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_the_page_stands_alone(made: Path) -> None:
    path = write_report(made)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert page.references
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert not re.search(r"url\(|@import", text)
    assert path.stat().st_size < 300_000
    assert [p.name for p in made.iterdir() if p.name.endswith(".part")] == []


def test_every_part_is_there(made: Path) -> None:
    page = Page(write_report(made).read_text(encoding="utf-8"))
    assert page.tags.count("svg") >= 5
    assert page.text.count("50 % of the patches kept") == 6
    assert "6 min 12 s" in page.text
    assert "pairs seen" in page.text
    assert "guessing: ln 256 = 5.55" in page.text
    assert "3 skipped" in page.text
    assert "masking:" in page.text
    assert "retrieval_photo" in page.text
    assert "✓ right" in page.text or "place 6" in page.text


def test_hostile_text_is_shown_not_run(made: Path) -> None:
    text = write_report(made).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "evil.example" not in " ".join(Page(text).references)
    assert HOSTILE in Page(text).text


def test_a_run_without_mask_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, "masking.name=none")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "This run saw every patch" in page.text
    assert "of the patches kept" not in page.text


@pytest.mark.parametrize(
    "missing,words",
    [
        ("metrics.jsonl", "so there are no curves"),
        ("eval", "No set of this kind was evaluated"),
        ("summary.json", "training has not ended yet"),
        ("config.yaml", "the mask is not known"),
        ("model", "The masks cannot be drawn"),
    ],
)
def test_what_is_missing_is_said(run: Path, missing: str, words: str) -> None:
    path = run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert words in Page(write_report(run).read_text(encoding="utf-8")).text


def test_an_empty_folder_gives_a_page_and_no_folder_an_error(tmp_path: Path) -> None:
    assert Page(write_report(tmp_path).read_text(encoding="utf-8")).open == []
    with pytest.raises(DataError, match="is not a folder"):
        write_report(tmp_path / "nowhere")


def test_a_stopped_run_says_where(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"status": "stopped", "step": 7}))
    assert "it stopped at step 7 of 20" in Page(write_report(run).read_text(encoding="utf-8")).text


def test_pictures_of_a_changed_set_are_not_shown(run: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    write_set(root / "retrieval_photo", [f"other {i}" for i in range(6)])
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub(r"root: .*", f"root: {root}", text))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "has changed since its evaluation" in page.text
    assert "✓ right" not in page.text


def test_broken_lines_and_values_that_are_not_numbers_are_passed_over(run: Path) -> None:
    lines = [
        {"kind": "train", "step": 1, "loss": 2.0},
        {"kind": "train", "step": 2, "loss": math.nan},
        {"kind": "train", "step": 3, "loss": None},
        {"kind": "train", "step": 4, "loss": 1.0},
        {"kind": "train", "step": 1, "loss": 3.0},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"kind": "train", "st'
    (run / "metrics.jsonl").write_text(text)
    assert read_run(run).curve("loss") == [(1.0, 3.0), (4.0, 1.0)]
    write_report(run)


def test_results_of_another_tool_are_shown_as_far_as_they_go(run: Path) -> None:
    shutil.rmtree(run / "eval")
    (run / "eval").mkdir()
    plain = {"dataset": "wds/<b>cars</b>", "task": "zeroshot_classification", "metrics": {"acc1": 0.5}}
    (run / "eval" / "cars.json").write_text(json.dumps(plain))
    (run / "eval" / "broken.json").write_text("{")
    text = write_report(run).read_text(encoding="utf-8")
    assert "wds/<b>cars</b>" in Page(text).text


def test_a_loss_that_stays_at_guessing_is_called_that(run: Path) -> None:
    words = "it has learnt next to nothing"
    assert words not in Page(write_report(run).read_text(encoding="utf-8")).text
    lines = [{"kind": "train", "step": step, "loss": math.log(256) - 0.01} for step in range(1, 9)]
    (run / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert words in Page(write_report(run).read_text(encoding="utf-8")).text


def test_headline_is_the_mean_over_sets_against_mean_chance(run: Path) -> None:
    for name, value, chance in (("a", 0.5, 0.1), ("b", 0.3, 0.1)):
        found = {
            "dataset": name,
            "task": "zeroshot_classification",
            "metrics": {"acc1": value},
            "chance": {"acc1": chance},
            "images": 100,
        }
        (run / "eval" / f"{name}.json").write_text(json.dumps(found))
    figures = headline(read_run(run))
    assert (figures[0].value, figures[0].label) == ("40.0\u202f%", "zero-shot top-1")
    assert figures[0].note == "4.0× chance (10.0\u202f%), mean of 2 sets"
    assert kept_share(read_run(run)) == 0.5


def test_a_difference_within_two_standard_errors_is_called_chance() -> None:
    assert Score(0.12, 0.10, 0.03).against_chance.startswith("≈ chance")
    assert Score(0.20, 0.10, 0.03).against_chance.startswith("2.0× chance")
    found = score({"metrics": {"acc1": 0.5}, "chance": {"acc1": 0.1}, "images": 100}, "acc1")
    assert found is not None
    assert found.error == pytest.approx(0.05)
    assert score({"metrics": {}}, "acc1") is None


def test_numbers_in_words() -> None:
    durations = [duration(s) for s in (None, 12.4, 372, 960.4, 7260)]
    assert durations == ["–", "12 s", "6 min 12 s", "16 min", "2 h 01 min"]
    assert percent(0.3125) == "31.2\u202f%"
    assert (times(0.5, 0.1), times(0.5, 0.01), times(0.5, 0)) == ("5.0×", "50×", "–")
