"""patchclip adapt, from the command line to the files, on a tiny real model."""

import json
from pathlib import Path
from typing import Any

import pytest

from patchclip import cli
from tests.engine.adapting._sets import write_captions, write_classes

from .report._runs import HOSTILE, make_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_captions(write_classes(tmp_path_factory.mktemp("sets")))
    (root / "colours" / "classnames.txt").write_text(f"{HOSTILE}\ngreen\ngrey\nred\n")
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHCLIP_CACHE", str(tmp_path / "cache"))


def run(words: list[Any]) -> int:
    return cli.main([str(word) for word in words])


def test_an_adapter_with_its_report(
    model: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["adapt", model, "colours", "--data-root", root, "--shots", 3, "--seeds", 2, "--output", tmp_path]
    assert run([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["rows"][0]["measure"] == "accuracy"
    page = Path(summary["report"]).read_text("utf-8")
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http://evil.example", "")
    assert page.count("<img") == len(summary["changed"])
    assert {"adapter.json", "adapter.safetensors", "result.json", "report.html"} <= {
        p.name for p in tmp_path.iterdir()
    }
    assert (tmp_path / "cache").is_dir()


def test_lines_for_people(model: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adapt", model, "colours", "--method", "gda:alpha=1", "--data-root", root, "--no-cache"]
    assert run([*words, "--seeds", 1, "--shots", 0, "--new-classes", 0.5, "--views", 2]) == 0
    out = capsys.readouterr().out
    assert "accuracy, base classes" in out
    assert "gda " in out
    assert "--output DIR keeps it" in out


def test_an_adapted_model_is_evaluated_by_its_folder(
    model: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    method = "labclip:epochs=5;learning_rate=0.01"
    words = ["adapt", model, "pairs", "--method", method, "--data-root", root, "--negatives", "swap"]
    assert run([*words, "--seeds", 2, "--output", tmp_path / "bound"]) == 0
    assert "true caption over false one" in capsys.readouterr().out
    page = (tmp_path / "bound" / "report.html").read_text("utf-8")
    assert "The bar spans the seeds" in page
    evaluated = ["eval", "--model", tmp_path / "bound" / "model", "--suite", "retrieval", "--data-root", root]
    assert run([*evaluated, "--datasets", "pairs"]) == 0


def test_the_folder_of_the_run_itself_is_refused(
    model: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def held() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}

    before = held()
    words = ["adapt", model, "colours", "--method", "clipood:steps=1", "--data-root", root]
    assert run([*words, "--output", model]) == 2
    assert "folder of a run" in capsys.readouterr().err
    assert held() == before


@pytest.mark.parametrize(
    "words, code, told",
    [
        (["colours", "--method", "gdaa"], 2, "did you mean 'gda'"),
        (["colours", "--shots", "9"], 3, "has 8 training images: ask for 8 at most"),
        (["colours", "--seeds", "0"], 2, "seeds=0 must be at least 1"),
        (["colors"], 3, "did you mean 'colours'"),
        (["pairs"], 3, "no class for each image"),
        (["colours", "--method", "labclip"], 3, "has no captions"),
        (["pairs", "--method", "labclip", "--shots", "1"], 2, "shots=1 has no effect on labclip"),
        (["colours", "--pairs", "9"], 2, "pairs=9 has no effect on gda"),
    ],
)
def test_wrong_input_is_told(
    words: list[str], code: int, told: str, model: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["adapt", model, *words, "--data-root", root]) == code
    assert told in capsys.readouterr().err
