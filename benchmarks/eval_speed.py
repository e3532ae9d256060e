"""The same evaluation by clip_benchmark and by patchclip: whole processes, and the encode alone, interleaved.

    python benchmarks/eval_speed.py --model RUN [--data-root DIR]   writes results/eval_speed.json
    python benchmarks/eval_speed.py --quick                         sample sets, under 50 s; writes nothing

Three classification sets, a retrieval set and a linear probe (on the third set) on one model, in fp32, from
start to end of the process, imports and loading included. clip_benchmark 1.6.2 runs in an environment of
its own with the same torch (see _clip_benchmark.py). Its linear probe asks for CUDA in four places; those are
changed, nothing else. It does one task a command, so a user types three; they are also timed in one process
that imports it once, which no command of it does.

A round is one run of each: clip_benchmark with batches of 64 without worker processes, which is its fastest
for sets of this size, once more in one process, and once with its default of four workers; patchclip with
batches of 64 and with its defaults, from an empty cache, its report written. Ratios are taken within a round
(against the faster number of workers), then their median. Then patchclip again from the cache it left.

The encode alone is the loop over the images of the classification sets (read, decode, prepare, encode) of
each, warmed up on the first set, the median of three times a process; clip_benchmark with 0, 2 and 4 workers,
of which the fastest counts.
The last line is one JSON object: clip_benchmark_over_ours, encode_theirs_over_ours, and without --quick
one_process_over_ours.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from _clip_benchmark import Timing, environment, machine
from _derived_sets import copied, kinds_of, probe_set, probed
from _eval_runs import BATCH, Bench
from eval_agreement import model_folder

RESULT = Path(__file__).parent / "results" / "eval_speed.json"
QUICK_SECONDS = 40.0
WORKERS = (0, 2, 4)
ONE_PROCESS = "clip_benchmark, 0 workers, one process"
SMALL = 48
"""Images of a set with --quick."""


def rounds(
    variants: dict[str, Callable[[], Any]], more: Callable[[int], bool], title: str
) -> dict[str, list[Any]]:
    """Runs every variant once a round, in turn from either end, until `more(rounds)` says no."""
    found: dict[str, list[Any]] = {name: [] for name in variants}
    done = 0
    while more(done):
        for name in variants if done % 2 == 0 else reversed(variants):
            found[name].append(variants[name]())
            print(f"{title} {done + 1}: {name}: {found[name][-1]}", flush=True)
        done += 1
    return found


def totals(
    bench: Bench, quick: bool, more: Callable[[int], bool]
) -> tuple[dict[str, Any], float, float | None]:
    """Wall and processor seconds of each way to run the evaluation; theirs over ours, and in one process."""
    left: list[Path] = []

    def cold(*arguments: str) -> Callable[[], Timing]:
        def run() -> Timing:
            cache = bench.fresh("cache")
            if not arguments:
                left[:] = [cache]
            return bench.ours(cache, *arguments)

        return run

    variants: dict[str, Callable[[], Timing]] = {
        "clip_benchmark, 0 workers": partial(bench.theirs, 0),
        "patchclip": cold(),
    }
    if not quick:
        variants |= {
            ONE_PROCESS: partial(bench.theirs, 0, together=True),
            "clip_benchmark, default 4 workers": partial(bench.theirs, 4),
            "patchclip, batches of 64": cold("--batch-size", str(BATCH)),
        }
    found = rounds(variants, more, "evaluation")
    theirs = [name for name in found if name.startswith("clip_benchmark") and name != ONE_PROCESS]
    ratios, together = [], []
    for i, mine in enumerate(found["patchclip"]):
        ratios.append(min(found[name][i].wall for name in theirs) / mine.wall)
        together += [found[ONE_PROCESS][i].wall / mine.wall] if ONE_PROCESS in found else []
    if not quick:
        found["patchclip, from its cache"] = [bench.ours(left[0]) for _ in range(len(ratios))]
    table = {name: summary(times) for name, times in found.items()}
    one = round(statistics.median(together), 3) if together else None
    return table, round(statistics.median(ratios), 3), one


def summary(times: list[Timing]) -> dict[str, float]:
    """Medians of some runs."""
    wall = [each.wall for each in times]
    return {
        "wall_s": round(statistics.median(wall), 3),
        "wall_s_min": round(min(wall), 3),
        "wall_s_max": round(max(wall), 3),
        "cpu_s": round(statistics.median(each.cpu for each in times), 3),
    }


def encodes(bench: Bench, quick: bool, more: Callable[[int], bool]) -> tuple[dict[str, Any], float]:
    """Images a second of each loop, and theirs over ours in time."""
    variants: dict[str, Callable[[], dict[str, Any]]] = {"patchclip": bench.encode_ours}
    for workers in WORKERS[:1] if quick else WORKERS:
        variants[f"clip_benchmark, {workers} workers"] = partial(bench.encode_theirs, workers)
    found = rounds(variants, more, "encode")
    table = {}
    for name, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        table[name] = {
            "images": runs[0]["images"],
            "seconds": round(seconds, 3),
            "seconds_min": round(min(run["seconds"] for run in runs), 3),
            "cpu_seconds": round(statistics.median(run["cpu_seconds"] for run in runs), 3),
            "images_per_s": round(runs[0]["images"] / seconds, 1),
        }
    best = min((name for name in found if name != "patchclip"), key=lambda name: table[name]["seconds_min"])
    pairs = zip(found[best], found["patchclip"], strict=True)
    ratio = statistics.median(theirs["seconds"] / mine["seconds"] for theirs, mine in pairs)
    return table | {"fastest_of_clip_benchmark": best}, round(ratio, 3)


def prepare(options: argparse.Namespace, work: Path) -> Bench:
    """The sets, the model and the peer."""
    from patchclip.data.benchmarks import benchmark_root

    found = kinds_of(benchmark_root(options.data_root))
    by_name = {folder.name: folder for folder in (*found["classification"], *found["retrieval"])}
    probe = by_name[options.probe] if options.probe else probed(found["classification"])
    others = [folder for folder in found["classification"] if folder != probe]
    plain = [by_name[name] for name in options.plain.split(",")] if options.plain else others[:2]
    retrieval = by_name[options.retrieval] if options.retrieval else found["retrieval"][0]
    limit = SMALL if options.quick else 0
    root = work / "data"
    names = [copied(folder, root / folder.name, limit) for folder in plain]
    names.append(probe_set(probe, root / f"splits_of_{probe.name}", limit))
    searched = copied(retrieval, root / retrieval.name, limit)
    peer = environment(options.env, work / "log")
    return Bench(peer, model_folder(options.model, work), root, names, searched, work)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="run folder, or NAME:random (default: ViT-Ti-16:random)")
    parser.add_argument("--data-root", default="samples", help="sets in webdataset layout, or samples")
    parser.add_argument("--plain", help="two classification sets (default: the first two)")
    parser.add_argument("--probe", help="classification set of the probe (default: the largest that can be)")
    parser.add_argument("--retrieval", help="retrieval set (default: the first)")
    parser.add_argument("--env", type=Path, help="environment of clip_benchmark, made where there is none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Measures and prints; the full run also writes its result."""
    started = time.perf_counter()
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(options, Path(folder))
        ready = time.perf_counter()

        def more(done: int) -> bool:
            if not options.quick:
                return done < options.rounds
            each = (time.perf_counter() - ready) / max(1, done)
            return done < 1 or (done < 3 and time.perf_counter() - started + each < QUICK_SECONDS)

        encoded, encode_ratio = encodes(
            bench, options.quick, lambda done: done < options.rounds and (not options.quick or done < 1)
        )
        table, ratio, together = totals(bench, options.quick, more)
    keys = {
        "clip_benchmark_over_ours": ratio,
        "encode_theirs_over_ours": encode_ratio,
    }
    if together is not None:
        keys["one_process_over_ours"] = together
    content = {
        "what": "three classification sets, retrieval and linear probe on one model; fp32; whole processes",
        "model": Path(options.model).name if options.model else "ViT-Ti-16, random weights",
        "sets": [*bench.classification, bench.retrieval],
        "batch_size": BATCH,
        "machine": machine(),
        "rounds": options.rounds,
        "evaluation": table,
        "encode": encoded,
        **keys,
    }
    print(json.dumps(content, indent=1))
    if not options.quick:
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(keys))


if __name__ == "__main__":
    main()
