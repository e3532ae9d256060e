"""Peak memory of a training step, measured, beside the estimate of `patchclip train --dry-run`.

    python benchmarks/memory.py            ViT-S-16-short, batch 32, CPU; writes results/memory.json
    python benchmarks/memory.py --quick    batch 16, under 50 s on two cores; writes nothing

Each variant is a process of its own. Measured is the highest resident memory over three steps (with update)
less that before the model is built, so the interpreter and torch are left out; freed memory is given back at
once (MALLOC_MMAP_THRESHOLD_), as without it glibc's heap keeps up to two thirds more. The last line is one
JSON object: variant -> measured / estimated.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from patchclip.engine.optim import adamw
from patchclip.engine.planning.estimates import GIB, Inputs, Step, step_memory
from patchclip.engine.ranks.distributed import GatheredLoss, World
from patchclip.engine.step import ContrastiveStep, Towers
from patchclip.losses.clip import ClipLoss
from patchclip.masking.random import RandomMask
from patchclip.models.architectures import create
from patchclip.models.cost import outline
from patchclip.models.masked import attach

RESULT = Path(__file__).parent / "results" / "memory.json"
MODEL = "ViT-S-16-short"
VARIANTS = {
    "dense": (0.0, False),
    "dense, recomputed": (0.0, True),
    "random 0.5": (0.5, False),
    "random 0.5, recomputed": (0.5, True),
}


def resident() -> int:
    """Highest resident memory of this process so far, in bytes (ru_maxrss would start at its parent's)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure(ratio: float, recompute: bool, batch: int) -> float:
    """GiB that three steps need at their peak."""
    warm = torch.nn.Linear(8, 8)
    warm(torch.randn(2, 8)).sum().backward()  # libraries load lazily
    before = resident()
    architecture = create(MODEL)
    model = architecture.model.train()
    model.set_grad_checkpointing(recompute)
    slot = attach(model, RandomMask(ratio))
    optimizer = adamw(model, 1e-4, (0.9, 0.98), 1e-6, 0.2)
    autocast = torch.autocast("cpu", enabled=False)
    step = ContrastiveStep(Towers(model), GatheredLoss(ClipLoss(), World()), slot, None, lambda: autocast)
    for number in range(3):
        pixels = torch.randn(batch, 3, architecture.image_size, architecture.image_size)
        step(pixels, torch.randint(1, 49000, (batch, 32)), (0, number, 0), lambda loss: loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (resident() - before) / GIB


def estimate(ratio: float, recompute: bool, batch: int) -> dict[str, float]:
    """What the plan says, in GiB."""
    model = outline(MODEL)
    patches = (model.image_size // model.image.patch) ** 2
    inputs = Inputs(patches, RandomMask(ratio).kept(patches, 0.0), 32)
    return step_memory(model, inputs, Step(batch, recompute=recompute, bytes=4))


def main() -> None:
    """Measures each variant in a process of its own and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=VARIANTS, help="measure one variant in this process")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    batch = 16 if options.quick else options.batch
    if options.only:
        print(measure(*VARIANTS[options.only], batch))
        return
    rows: dict[str, Any] = {}
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    for name, (ratio, recompute) in VARIANTS.items():
        words = [sys.executable, __file__, "--only", name, "--batch", str(batch)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        found, expected = float(done.stdout.split()[-1]), estimate(ratio, recompute, batch)
        rows[name] = {"measured_gib": found, "estimated_gib": expected, "ratio": found / expected["total"]}
    content = {
        "what": f"{MODEL}, 160 px, fp32 on a CPU: forward, backward and AdamW",
        "step": asdict(Step(batch, bytes=4)),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "variants": rows,
    }
    print(json.dumps(content, indent=1))
    if not options.quick:
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: round(row["ratio"], 3) for name, row in rows.items()}))


if __name__ == "__main__":
    main()
