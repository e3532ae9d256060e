"""Dense CLIP against masked pre-training: equal epochs and equal time, several seeds.

    python benchmarks/pretraining.py --data DIR [--folder RUNS]     DIR as tools/pairset makes it
    python benchmarks/pretraining.py --quick                        a few steps on the shipped pairs

Every run is a process of its own with one thread; `--jobs` of them at a time. Time is processor time of the
training steps (loading included, evaluation not), so that runs beside each other do not change it much. Runs
that lie in `--folder` already are not repeated. Writes benchmarks/results/pretraining.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _scores import score

RESULT = Path(__file__).parent / "results" / "pretraining.json"
HALF = "masking.mask_ratio=0.5"
EPOCHS = {
    "dense": ["masking.name=none"],
    "random": ["masking.name=random", HALF],
    "block": ["masking.name=block", HALF],
    "resize": ["masking.name=resize", HALF],
    "cluster": ["masking.name=cluster", HALF, "masking.threshold=0.4"],
    "attentive": ["masking.name=attentive", HALF],
    "pgs_released": ["masking.name=pgs_released", HALF],
    "pgs": ["masking.name=pgs", HALF],
    "pgs-contrast": ["masking.name=pgs", HALF, "masking.contrast=1"],
}
"""Name -> settings of the runs that see every pair as often as dense CLIP.

The threshold of `cluster` is the one that masks half of these pictures (`cluster.matching_threshold`), as its
paper finds it.
"""

PGS = EPOCHS["pgs"]
BEYOND = {
    "pgs-tail": [*PGS, "train.unmasked_share=0.1"],
    "pgs-frequency-8": [*PGS, "text.name=frequency", "data.text_tokens=8"],
}
"""Beyond the papers, equal epochs too: the last tenth without a mask; captions of 8 tokens, by frequency."""

TIMED = {"dense-short": (EPOCHS["dense"], 224)}
"""Name -> settings and steps of the runs that take the time of `random`; most other masks take it anyway."""


def one_run(folder: Path, overrides: list[str]) -> None:
    """Trains once, in this process; leaves processor seconds a step in `folder`/result.json."""
    from patchclip import load_config, train

    ticks: list[float] = []
    outcome = train(load_config("demo", overrides), on_step=lambda info: ticks.append(time.process_time()))
    seconds = (ticks[-1] - ticks[0]) / max(1, len(ticks) - 1)
    content = {"step_seconds": seconds, "steps": len(ticks), "settings": overrides}
    (outcome.run / "result.json").write_text(json.dumps(content), encoding="utf-8")
    if outcome.run.resolve() != folder.resolve():
        raise SystemExit(f"{outcome.run} is not {folder}")


def spawn(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run with its scores; what lies in the folder already is read."""
    folder = options.folder / f"{name}-{seed}"
    if not (folder / "result.json").is_file():
        settings, steps = TIMED.get(name, ((EPOCHS | BEYOND).get(name, []), None))
        overrides = [
            *settings,
            *options.override,
            *([f"train.max_steps={steps}"] if steps and not options.quick else []),
            f"train.seed={seed}",
            f"train.epochs={options.epochs}",
            f"output={folder}",
            "train.threads=1",
            "tracking.tensorboard=false",
            "checkpoint.every=100000",
            f"data.pairs=[{options.pairs}]",
            "eval.datasets=[]",
        ]
        command = [sys.executable, __file__, "--run", str(folder), *overrides]
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=alone, stderr=subprocess.DEVNULL)
        print(f"done: {name}, seed {seed}", file=sys.stderr, flush=True)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if not options.quick and not (folder / "scores.json").is_file():
        (folder / "scores.json").write_text(json.dumps(score(folder, options.data / "test")), "utf-8")
    scores = {} if options.quick else json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    del result["settings"]
    return {"method": name, "seed": seed, **result, **scores}


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation over seeds of every column, and time relative to dense of the same seed."""
    whole = {run["seed"]: run["step_seconds"] * run["steps"] for run in runs if run["method"] == "dense"}
    table: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(run["method"] for run in runs):
        columns = [
            {
                **run.get("scores", {}),
                "relative time": run["step_seconds"] * run["steps"] / whole[run["seed"]],
            }
            for run in runs
            if run["method"] == name
        ]
        table[name] = {key: spread([column[key] for column in columns]) for key in columns[0]}
    return table


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "std": round(deviation, 4)}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with train/ and test/")
    parser.add_argument("--folder", type=Path, help="keeps the runs; default: a temporary folder")
    parser.add_argument("--methods", nargs="+", default=[*EPOCHS, *BEYOND, *TIMED])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="six steps of dense and pgs; writes nothing")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("override", nargs="*", help="key=value for every run")
    options = parser.parse_args()
    if options.quick:
        options.methods, options.seeds, options.pairs = ["dense", "pgs"], 1, "samples"
        options.override += ["train.max_steps=6"]
    elif options.data is not None:
        shards = options.data.resolve() / "train"
        options.pairs = f"{shards}/pairs-*.tar,{shards}/scenes-000.tar"
    elif options.run is None:
        parser.error("--data DIR or --quick is needed")
    return options


def main() -> None:
    """Runs the study and writes its results."""
    options = arguments()
    if options.run:
        one_run(options.run, options.override)
        return
    started = time.time()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        options.folder = options.folder or Path(temporary)
        jobs = [
            pool.submit(spawn, name, seed, options)
            for seed in range(options.seeds)
            for name in options.methods
        ]
        runs = [job.result() for job in jobs]
    content = {
        "what": "one process a run with one thread; time is processor time of the training steps",
        "recipe": "demo",
        "epochs": options.epochs,
        "override": options.override,
        "seeds": options.seeds,
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "minutes": round((time.time() - started) / 60, 1),
        "chance": runs[0].pop("chance", {}),
        "table": summarise(runs),
        "runs": [{key: value for key, value in run.items() if key != "chance"} for run in runs],
    }
    if not options.quick:
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: content[key] for key in ("chance", "table")}, indent=1))
    print(json.dumps({f"{n} relative time": r["relative time"]["mean"] for n, r in content["table"].items()}))


if __name__ == "__main__":
    main()
