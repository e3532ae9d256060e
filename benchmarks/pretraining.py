"""Dense CLIP against masked pre-training at equal epochs: zero-shot, retrieval, time, several seeds.

    python benchmarks/pretraining.py --pairs 'DIR/train/pairs-*.tar' --data-root DIR/test

Every run is its own process with one thread; `--jobs` of them at a time. Time is processor time of the
training steps (loading included, evaluation not), so that runs beside each other do not change it much.
Writes benchmarks/results/pretraining.json.
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

RESULT = Path(__file__).parent / "results" / "pretraining.json"
METHODS = {
    "dense": ["masking.name=none"],
    "random 0.5": ["masking.name=random", "masking.mask_ratio=0.5"],
    "PGS 0.5": ["masking.name=pgs", "masking.mask_ratio=0.5"],
    "PGS 0.3-0.5": ["masking.name=pgs", "masking.mask_ratio=[0.3,0.5]"],
}
FIXED = ["train.batch_size=256", "optim.warmup_steps=40"]
SETS = ["zs_emoji", "zs_emoji_novel", "zs_clipart", "zs_furniture", "zs_photo", "retrieval_mixed"]


def one_run(overrides: list[str], result: Path) -> None:
    """Trains and evaluates once, in this process; writes metrics and processor seconds a step to `result`."""
    from patchclip import load_config, train

    ticks: list[float] = []
    config = load_config("demo", overrides)
    outcome = train(config, on_step=lambda info: ticks.append(time.process_time()))
    scores = {}
    for path in sorted((outcome.run / "eval").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        scores[record["dataset"]] = {"metrics": record["metrics"], "chance": record.get("chance", {})}
    seconds = (ticks[-1] - ticks[0]) / max(1, len(ticks) - 1)
    result.write_text(
        json.dumps({"scores": scores, "step_seconds": seconds, "steps": len(ticks)}), encoding="utf-8"
    )


def spawn(name: str, seed: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run as a process of its own with one thread."""
    result = folder / f"{name.replace(' ', '-')}-{seed}.json"
    overrides = [
        *METHODS[name],
        *FIXED,
        *options.override,
        f"train.seed={seed}",
        f"train.epochs={options.epochs}",
        f"output={folder / result.stem}",
        "train.threads=1",
        "tracking.tensorboard=false",
        "checkpoint.every=100000",
        f"data.pairs={options.pairs}",
        f"eval.root={options.data_root}",
        f"eval.datasets=[{','.join(options.datasets)}]",
    ]
    command = [sys.executable, __file__, "--run", str(result), *overrides]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    print(f"done: {name}, seed {seed}", file=sys.stderr, flush=True)
    return {"method": name, "seed": seed, **json.loads(result.read_text(encoding="utf-8"))}


def figures(run: dict[str, Any]) -> dict[str, float]:
    """The columns of the table: accuracy of each set, their mean, and retrieval both ways averaged."""
    row: dict[str, float] = {}
    for name, score in run["scores"].items():
        metrics = score["metrics"]
        if "acc1" in metrics:
            row[f"{name} top-1"] = 100 * metrics["acc1"]
        else:
            for k in (1, 5):
                both = [metrics[f"{side}_retrieval_recall@{k}"] for side in ("image", "text")]
                row[f"{name} R@{k}"] = 100 * statistics.mean(both)
    row["mean top-1"] = statistics.mean(v for k, v in row.items() if k.endswith("top-1"))
    return row


def chance(run: dict[str, Any]) -> dict[str, float]:
    """The same columns for guessing."""
    return figures({"scores": {n: {"metrics": s["chance"]} for n, s in run["scores"].items()}})


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation over seeds of every column, and time relative to dense of the same seed."""
    dense = {run["seed"]: run["step_seconds"] for run in runs if run["method"] == "dense"}
    table: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == name]
        columns = [figures(run) | {"relative time": run["step_seconds"] / dense[run["seed"]]} for run in mine]
        table[name] = {key: spread([column[key] for column in columns]) for key in columns[0]}
    return table


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "std": round(deviation, 4)}


def main() -> None:
    """Runs the study and writes its results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", default="samples", help="training pairs, as data.pairs")
    parser.add_argument("--data-root", default="samples", help="evaluation sets, as eval.root")
    parser.add_argument("--datasets", nargs="+", default=SETS)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--quick", action="store_true", help="six steps of dense and PGS 0.5, one seed; writes nothing"
    )
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("override", nargs="*", help="key=value for every run")
    options = parser.parse_args()
    if options.run:
        one_run(options.override, options.run)
        return
    methods, seeds = list(METHODS), range(options.seeds)
    if options.quick:
        methods, seeds = ["dense", "PGS 0.5"], range(1)
        options.override += ["train.max_steps=6", "train.batch_size=128"]
        options.datasets = ["zs_clipart", "retrieval_emoji_novel"]
    started = time.time()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(spawn, name, seed, options, Path(folder)) for seed in seeds for name in methods]
        runs = [job.result() for job in jobs]
    content = {
        "what": "equal epochs, one process a run with one thread, processor time of the steps",
        "recipe": "demo",
        "epochs": options.epochs,
        "override": [*FIXED, *options.override],
        "seeds": len(seeds),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "minutes": round((time.time() - started) / 60, 1),
        "chance": chance(runs[0]),
        "table": summarise(runs),
        "runs": runs,
    }
    if not options.quick:
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: content[key] for key in ("chance", "table")}, indent=1))
    print(json.dumps({f"{n} relative time": r["relative time"]["mean"] for n, r in content["table"].items()}))


if __name__ == "__main__":
    main()
