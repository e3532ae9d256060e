"""The command line: what is parsed, what is printed where, and the exit codes."""

import json
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from patchclip import _cli_format, cli, registry
from patchclip.config import TrainConfig
from patchclip.errors import CheckpointError, DataError, Interrupted

SCORES = {"dataset": "digits", "metrics": {"acc1": 0.25}, "chance": {"acc1": 0.1}}


@dataclass
class Outcome:
    """Stands in for TrainResult."""

    run: Path
    status: str = "done"
    step: int = 3


class Engine:
    """A module `patchclip.engine.train` that trains nothing, and notes what it was asked."""

    def __init__(self, run: Path) -> None:
        self.run, self.asked, self.error = run, {}, None  # type: ignore[var-annotated]

    def train(self, config: TrainConfig, *, resume: bool, on_step: Any) -> Outcome:
        self.asked = {"config": config, "resume": resume}
        if self.error is not None:
            raise self.error
        on_step(
            types.SimpleNamespace(step=1, total_steps=3, loss=2.5, images_per_s=9.6, seconds_left=61, lr=1)
        )
        on_step(types.SimpleNamespace(step=3, total_steps=3, loss=2.0, images_per_s=10, seconds_left=0, lr=1))
        (self.run / "eval").mkdir(parents=True, exist_ok=True)
        (self.run / "eval" / "digits.json").write_text(json.dumps(SCORES))
        return Outcome(self.run)


def replace_module(patch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    patch.setitem(sys.modules, name, module)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Training and report replaced by stand-ins."""
    stand_in = Engine(tmp_path / "run")
    replace_module(monkeypatch, "patchclip.engine.train", train=stand_in.train)
    replace_module(
        monkeypatch, "patchclip.report.run_report", write_report=lambda run: Path(run) / "report.html"
    )
    return stand_in


def test_train_passes_settings_and_says_where_the_report_lies(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "train.epochs=5", "--config", "demo", "--resume", "train.seed=7"]) == 0
    config = engine.asked["config"]
    assert (config.train.epochs, config.train.seed, config.output) == (5, 7, "runs/demo")
    assert engine.asked["resume"] is True
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["digits", "acc1", "25.0%", "(chance", "10.0%)"]
    assert out.splitlines()[-1] == f"done: {engine.run}/report.html"
    assert "loss 2.000, 10 images/s, 00:00 left" in err
    assert "3/3" in err


def test_train_without_report(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "demo", "--no-report"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"done: {engine.run}"


def test_train_as_json(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "demo", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {
        "run": str(engine.run),
        "status": "done",
        "step": 3,
        "eval": {"digits": {"acc1": 0.25}},
        "report": f"{engine.run}/report.html",
    }


def test_only_the_first_rank_speaks(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["train", "--config", "demo"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("no pairs"), 3, "patchclip: error: no pairs"),
        (CheckpointError("torn"), 1, "patchclip: error: torn"),
        (Interrupted("at step 3", 143), 143, "patchclip: at step 3"),
        (KeyboardInterrupt(), 130, "patchclip: interrupted"),
    ],
)
def test_errors_become_exit_codes_without_a_traceback(
    engine: Engine, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    engine.error = error
    assert cli.main(["train", "--config", "demo"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert "Traceback" not in err


def test_errors_as_json(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--config", "demo", "train.epoch=5", "--json"]) == 2
    failure = json.loads(capsys.readouterr().out)
    assert failure["exit_code"] == 2
    assert "did you mean 'train.epochs'" in failure["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--epochs", "5"], "unrecognized arguments: --epochs; settings are written key=value"),
        (["list", "maskers", "x=3"], "unrecognized arguments: x=3"),
        (["list", "masks"], "invalid choice: 'masks'"),
        ([], "VERB"),
    ],
)
def test_wrong_arguments(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_list_prints_every_method_with_its_reference(capsys: pytest.CaptureFixture[str]) -> None:
    for plural, family in cli.FAMILIES.items():
        assert cli.main(["list", plural, "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)[plural]
        assert [row["name"] for row in listed] == registry.names(family)
    assert cli.main(["list", "maskers"]) == 0
    out = capsys.readouterr().out
    assert "arXiv 2503.17080" in " ".join(out.split())
    assert max(len(line) for line in out.splitlines()) <= 140


@pytest.mark.parametrize("what", ["models", "datasets", "recipes"])
def test_list_of_everything_else(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)[what]
    assert all(row["name"] and row["summary"] for row in rows)
    assert rows


def test_columns_are_aligned_and_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    rows = [
        registry.Entry("a", "one two three four five six seven eight", "source"),
        registry.Entry("bb", "s", ""),
    ]
    assert list(_cli_format.columns(rows)) == [
        "a   one two three four five six seven eight   source",
        "bb  s",
    ]
    monkeypatch.setenv("COLUMNS", "50")
    assert list(_cli_format.columns(rows)) == [
        "a   one two three four five six seven       source",
        "    eight",
        "bb  s",
    ]


def test_show_prints_options_and_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "masking/pgs"]) == 0
    out = capsys.readouterr().out
    assert "mask_ratio" in out
    assert "Source:" in out
    assert cli.main(["show", "maskers/pgs"]) == 0
    assert capsys.readouterr().out == out
    assert cli.main(["show", "pgs"]) == 2
    assert "must read FAMILY/NAME" in capsys.readouterr().err


def test_report_says_where_it_lies(
    engine: Engine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"done: {tmp_path}/report.html\n"


def test_help_of_train_names_every_key_and_stays_readable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(key in out for key in ("train.unmasked_share", "masking.name", "checkpoint.keep", "output"))
    assert max(len(line) for line in out.splitlines()) <= 100


def test_as_a_module_it_is_the_same_command() -> None:
    command = [sys.executable, "-m", "patchclip", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("patchclip ")


def test_a_closed_pipe_is_no_traceback() -> None:
    listing = f"{sys.executable} -m patchclip list maskers --json"
    done = subprocess.run(["sh", "-c", f"{listing} | true"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
