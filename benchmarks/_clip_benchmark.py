"""clip_benchmark in an environment of its own: makes it, runs it there, and times whole processes.

It is never a dependency of patchclip: it needs an older NumPy and webdataset, and a package that it does not
declare.
"""

import json
import os
import platform
import re
import resource
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUIREMENTS = ("clip-benchmark==1.6.2", "numpy<2.4", "webdataset<=0.2.86", "requests")
WORKER = Path(__file__).with_name("_clip_benchmark_worker.py")
READY = "ready.json"
LAST_LINES = 25


@dataclass(frozen=True)
class Timing:
    """What a process took: wall seconds, and seconds of processor time of it and its children."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Peer:
    """clip_benchmark, ready to run.

    Args:
        python: interpreter of its environment.
        work: folder for plans and logs.
    """

    python: Path
    work: Path

    def run(
        self,
        commands: Sequence[Sequence[str]],
        encode: Mapping[str, Any] | None = None,
        in_order: bool = False,
    ) -> tuple[Timing, dict[str, Any]]:
        """Runs commands of clip_benchmark, or times its encode, in one process.

        Args:
            commands: arguments of its command line, one call each.
            encode: what `encode` of the worker reads.
            in_order: whether its linear probe is kept from permuting the rows.

        Returns:
            What the process took, and what it was run with.
        """
        number = len(list(self.work.glob("plan-*.json")))
        plan, result = (self.work / f"{name}-{number:03d}.json" for name in ("plan", "run"))
        content = {
            "commands": [list(each) for each in commands],
            "encode": encode,
            "in_order": in_order,
            "result": str(result),
        }
        plan.write_text(json.dumps(content), encoding="utf-8")
        timing = timed([str(self.python), str(WORKER), str(plan)], self.work / f"log-{number:03d}.txt")
        return timing, json.loads(result.read_text("utf-8"))


def default_environment() -> Path:
    """Where the environment lies unless --env says otherwise: in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Path(base) / "patchclip" / f"clip_benchmark-1.6.2-python{version}"


def environment(folder: Path | None, work: Path) -> Peer:
    """The environment, made where there is none (seconds with a package index at hand; needs a network).

    Packages that both can share, torch and open_clip above all, are those of this Python, so that neither
    side runs on another build; what pip finds too new there, it installs in the environment.

    Raises:
        SystemExit: it cannot be made.
    """
    folder = folder or default_environment()
    work.mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python"
    if not (folder / READY).is_file():
        print(f"making an environment with clip_benchmark in {folder}", flush=True)
        venv.create(folder, clear=True, with_pip=False)
        site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        Path(site, "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        timed([*pip, *REQUIREMENTS], work / "pip.txt")
        (folder / READY).write_text(json.dumps({"requirements": REQUIREMENTS}), encoding="utf-8")
    return Peer(python, work)


def timed(command: Sequence[str], log: Path, **variables: str) -> Timing:
    """Runs a command to its end.

    Args:
        command: program and arguments.
        log: file for what it prints.
        **variables: of its environment, beside those of this process.

    Raises:
        SystemExit: it failed; its last lines are in the message.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **variables}, check=False
        )
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        last = log.read_text("utf-8", errors="replace").replace("\r", "\n").splitlines()[-LAST_LINES:]
        raise SystemExit("\n".join([*last, f"{' '.join(command)} ended with {done.returncode}"]))
    return Timing(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def command(
    model: Path,
    root: Path,
    datasets: Sequence[str],
    output: Path,
    *more: str,
    batch_size: int = 64,
    workers: int = 4,
) -> list[str]:
    """Arguments of `clip_benchmark eval` for a model folder of open_clip, in fp32.

    Args:
        model: folder with open_clip_config.json and weights.
        root: folder of the data sets.
        datasets: as clip_benchmark names them, `wds/NAME`.
        output: folder of the result files.
        *more: further arguments.
        batch_size: images a pass; 64 is its default.
        workers: processes that read images; 4 is its default.
    """
    return [
        *("eval", "--dataset", *datasets, "--dataset_root", f"{root}/{{dataset}}"),
        *("--model", f"local-dir:{model}", "--pretrained", "none", "--no_amp"),
        *("--batch_size", str(batch_size), "--num_workers", str(workers)),
        *("--output", f"{output}/{{dataset}}-{{task}}.json"),
        *more,
    ]


def read(output: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Metrics by (data set, task) of every result file; data sets without `wds/`."""
    found = {}
    for path in sorted(output.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        found[content["dataset"].removeprefix("wds/"), content["task"]] = content["metrics"]
    return found


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    name, cpuinfo = platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf-8"), re.MULTILINE)
        name = found[1] if found else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
