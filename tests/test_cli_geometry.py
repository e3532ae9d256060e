"""patchclip geometry, from the command line to the files, on a tiny real model."""

import json
from pathlib import Path
from typing import Any

import pytest

from patchclip import cli

from .report._runs import make_run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHCLIP_CACHE", str(tmp_path / "cache"))


def run(words: list[Any]) -> int:
    return cli.main([str(word) for word in words])


def test_it_writes_a_page_and_figures(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["geometry", model, "--count", "24", "--batch-size", "8", "--output", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "24 pairs of retrieval_mixed, width 16"
    assert any(line.startswith("centroid_distance ") for line in lines)
    assert any(line.startswith("last heads ") for line in lines)
    assert lines[-1] == f"done: {out}/report.html"
    assert "Heads and their words" in (out / "report.html").read_text("utf-8")
    assert json.loads((out / "geometry.json").read_text("utf-8"))["pairs"] == 24
    assert list((tmp_path / "cache").rglob("images-*"))


def test_json_has_the_figures_and_nothing_is_kept_where_that_is_asked(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["geometry", model, "retrieval_mixed", "--count", "16", "--seed", "5", "--no-cache", "--json"]
    assert run([*words, "--output", tmp_path / "out"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["report"] == str(tmp_path / "out" / "report.html")
    assert found["settings"] == {"count": 16, "seed": 5, "data_root": "samples"}
    assert found["analyses"]["modality_gap"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--count", "3"], 2, "count=3 must be at least 8"),
        (["nothing", "--no-cache"], 3, "'nothing' is no set under 'samples'"),
    ],
)
def test_errors_say_what_to_do(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert run(["geometry", model, *words, "--output", tmp_path / "out"]) == code
    assert said in capsys.readouterr().err
