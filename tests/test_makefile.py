"""Setting up: which Python is taken, and what a machine without one is told."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from patchclip.config import load_config

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder, with a space in its name, that holds what set-up needs."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}
    command = ["make", *words]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def test_demo_sets_up_and_then_trains(clone: Path) -> None:
    steps = make(clone, "-n", "demo").stdout
    install, train = steps.index("pip install"), steps.index("-m patchclip train --resume")
    assert install < train
    assert "--config configs/demo.yaml" in steps


def test_demo_aligns_what_it_trained_and_ends_with_the_reports(clone: Path) -> None:
    steps = make(clone, "-n", "demo").stdout
    order = [
        "geometry runs/demo retrieval_mixed",
        "adapt runs/demo zs_clipart --method gda",
        "train --resume --config configs/things.yaml",
        "align --resume --config configs/pacl_demo.yaml",
        "eval --model runs/aligned",
    ]
    places = [steps.index(step) for step in order]
    assert places == sorted(places)
    aligned, things = load_config("pacl_demo"), load_config("things")
    assert aligned.model.pretrained == things.output == "runs/things"
    assert aligned.output == "runs/aligned"
    for key in ("name", "image_size", "context_length", "overrides"):
        assert getattr(aligned.model, key) == getattr(things.model, key)
    last = steps.strip().splitlines()[-1]
    assert "runs/aligned/eval/report.html" in last


def test_only_the_tests_need_the_development_tools(clone: Path) -> None:
    assert ".[dev]" in make(clone, "-n", "test").stdout
    assert ".[dev]" not in make(clone, "-n", "demo").stdout


def test_a_machine_without_python_is_told_what_to_do(clone: Path) -> None:
    done = make(clone, "demo", "PYTHON=/nowhere/python3")
    assert done.returncode != 0
    assert "patchclip needs Python 3.10 to 3.13" in done.stderr
    assert not (clone / ".venv").exists()


def test_an_old_python_is_refused(clone: Path) -> None:
    old = script(clone / "old" / "python3", "exit 1")
    assert "needs Python 3.10 to 3.13" in make(clone, "demo", f"PYTHON={old}").stderr


def test_a_python_without_venv_names_the_package(clone: Path) -> None:
    bare = script(
        clone / "bare" / "python3",
        'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.11;; esac',
    )
    done = make(clone, "demo", f"PYTHON={bare}")
    assert done.returncode != 0
    assert "sudo apt install python3.11-venv" in done.stderr


def test_a_broken_environment_is_made_anew_and_a_working_one_kept(clone: Path) -> None:
    fake = script(clone / "fake" / "python3", 'case "$1" in -m) echo "$@" >> made;; esac')
    script(clone / ".venv" / "bin" / "python", "exit 1")
    assert make(clone, ".venv/.created", f"PYTHON={fake}").returncode == 0
    assert (clone / "made").read_text() == "-m venv --clear .venv\n"
    (clone / ".venv" / ".created").unlink()
    script(clone / ".venv" / "bin" / "python", "exit 0")
    assert make(clone, ".venv/.created", f"PYTHON={fake}").returncode == 0
    assert (clone / "made").read_text() == "-m venv --clear .venv\n"


def test_an_interrupted_installation_is_done_again(clone: Path) -> None:
    script(clone / ".venv" / "bin" / "python", 'case "$2" in pip) [ "$3" = --version ] || exit 1;; esac')
    assert make(clone, ".venv/.installed").returncode != 0
    assert not (clone / ".venv" / ".installed").exists()
    script(clone / ".venv" / "bin" / "python", "exit 0")
    assert make(clone, ".venv/.installed").returncode == 0
    assert make(clone, ".venv/.installed").stdout.strip().endswith("is up to date.")


def test_clean_keeps_the_runs(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / "runs" / "demo").mkdir(parents=True)
    assert make(clone, "clean").returncode == 0
    assert not (clone / ".venv").exists()
    assert (clone / "runs" / "demo").exists()
