"""What each method of the catalogue does to a small CLIP, over several seeds.

    python benchmarks/catalogue.py                    everything
    python benchmarks/catalogue.py refine gda         these only; the others stay in the result
    python benchmarks/catalogue.py --quick            a few steps of everything; writes nothing

The small CLIP is the demo's (ViT-Ti-16, 112 pixels, 16 tokens), trained without a mask on the shipped pairs,
once a seed, into --folder. What an experiment asks stands in its file, benchmarks/experiments/NAME.py. Cost
is the ratio of two times of the same work, measured in turn in one process. Writes
benchmarks/results/catalogue.json after each method; tools/catalogue_page.py makes docs/catalogue.md of it.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from experiments._frame import Setting, base_model

HERE = Path(__file__).parent
RESULT = HERE / "results" / "catalogue.json"


def names() -> list[str]:
    """The experiments there are."""
    return sorted(path.stem for path in (HERE / "experiments").glob("*.py") if path.stem[0] != "_")


def measured(name: str, folder: Path, seeds: int, quick: bool) -> dict[str, Any]:
    """Figures of one method over the seeds, and what it costs."""
    found = importlib.import_module(f"experiments.{name}")
    runs, ratios = [], []
    for seed in range(seeds):
        setting = Setting(seed, base_model(folder, seed, quick), folder, quick)
        runs.append(found.run(setting))
        without, given = found.cost(setting)
        ratios.append(given / without)
    if set(runs[0]) != set(found.MEASURES):
        raise ValueError(f"{name}: run() gives {sorted(runs[0])}, MEASURES names {sorted(found.MEASURES)}")
    measures = {
        key: {
            **vars(measure),
            "without": [run[key][0] for run in runs],
            "with": [run[key][1] for run in runs],
        }
        for key, measure in found.MEASURES.items()
    }
    asked = " ".join((found.__doc__ or "").split())
    cost = statistics.median(ratios)
    return {"title": found.TITLE, "page": found.PAGE, "asked": asked, "measures": measures, "cost": cost}


def stored() -> dict[str, Any]:
    """What earlier calls wrote."""
    if not RESULT.is_file():
        return {"methods": {}}
    content: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    return content


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def ratios(methods: dict[str, Any]) -> dict[str, float]:
    """Cost of each method: seconds with it over seconds without it."""
    return {name: round(each["cost"], 3) for name, each in methods.items()}


def main() -> int:
    """Runs what is asked for; the last line is a JSON object of the costs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="experiments (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few steps and images; writes nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, help="keeps trained models between calls; empty it when the code changes"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = arguments.names or names()
    methods: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        for name in chosen:
            seeds = 1 if arguments.quick else arguments.seeds
            methods[name] = measured(name, folder, seeds, arguments.quick)
            print(
                name, json.dumps(methods[name]["measures"]), f"cost {methods[name]['cost']:.2f}", flush=True
            )
            if not arguments.quick:
                content = stored()
                content |= {"machine": machine(), "seeds": seeds}
                content["methods"][name] = methods[name]
                content["methods"] = dict(sorted(content["methods"].items()))
                RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(ratios(methods)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
