"""Runs inside the environment of _clip_benchmark.py: clip_benchmark's own command line, also without a GPU.

    PYTHON _clip_benchmark_worker.py PLAN.json

The plan is {"commands": [arguments of clip_benchmark, ...], "encode": null or what `encode` reads,
"in_order": whether the linear probe reads its rows in the order of the data, "result": path}. One process
runs all commands, so that its imports are paid for once. Nothing of patchclip is imported here.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import torch

from _repeated import repeated

ON_A_CPU = {
    "assert device == 'cuda'": "assert device in ('cuda', 'cpu')",
    "model = model.cuda()": "model = model.to(device)",
    "x, y = x.cuda(), y.cuda()": "x, y = x.to(device), y.to(device)",
    "Featurizer(model, normalize).cuda()": "Featurizer(model, normalize).to(device)",
}
"""What its linear probe does on a GPU only (metrics/linear_probe.py), and the same for any device."""

IN_ORDER = {"[p.item() for p in torch.randperm(length)]": "list(range(length))"}
"""Where it permutes the rows by torch's global random state, which depends on all that ran before."""


def rewrite_linear_probe(changes: dict[str, str]) -> None:
    """Replaces places in its linear probe, in memory; everything else stays as it is."""
    from clip_benchmark.metrics import linear_probe

    source = inspect.getsource(linear_probe)
    for theirs, ours in changes.items():
        if theirs not in source:
            raise RuntimeError(f"{theirs!r} is not in {linear_probe.__file__}: another version?")
        source = source.replace(theirs, ours)
    exec(compile(source, linear_probe.__file__, "exec"), linear_probe.__dict__)


def run(command: list[str]) -> None:
    """One call of the command line `clip_benchmark`."""
    from clip_benchmark import cli

    sys.argv = ["clip_benchmark", *command]
    cli.main()


def encode(plan: dict[str, Any]) -> dict[str, Any]:
    """Seconds of its own zero-shot loop over the images of some sets, model and imports not counted.

    Args:
        plan: model, root, datasets, batch_size, num_workers, repeats.
    """
    from clip_benchmark.datasets.builder import build_dataset
    from clip_benchmark.metrics.zeroshot_classification import run_classification
    from clip_benchmark.models import load_clip

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, transform, _ = load_clip("open_clip", plan["model"], "none", None, device)
    model.eval()
    classifier = torch.zeros(plan["width"], 2, device=device)

    def once(name: str) -> int:
        dataset = build_dataset(f"wds/{name}", root=f"{plan['root']}/{name}", transform=transform)
        loader = torch.utils.data.DataLoader(
            dataset.batched(plan["batch_size"]),
            batch_size=None,
            shuffle=False,
            num_workers=plan["num_workers"],
        )
        return len(run_classification(model, classifier, loader, device, amp=False)[1])

    return repeated(once, plan["datasets"], plan["repeats"])


def main() -> None:
    """Carries out the plan and writes what it was run with."""
    plan = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    result: dict[str, Any] = {}
    if plan["commands"]:
        changes = {} if torch.cuda.is_available() else ON_A_CPU
        rewrite_linear_probe(changes | (IN_ORDER if plan["in_order"] else {}))
        for command in plan["commands"]:
            run(command)
    if plan["encode"]:
        result["encode"] = encode(plan["encode"])
    versions = {name: __import__(name).__version__ for name in ("torch", "numpy", "open_clip", "webdataset")}
    result |= {"threads": torch.get_num_threads(), "versions": versions}
    Path(plan["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
