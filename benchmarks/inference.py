"""Masks at inference: accuracy and cost of encoding only a part of each image's patches.

    python benchmarks/inference.py --model RUN [--data-root DIR]     writes results/inference.json
    python benchmarks/inference.py --quick                           random weights, one ratio; writes nothing

Accuracy is zero-shot top-1, mean over classification sets and seeds; cost is the time of `encode_image` on
one batch, mask and guide included, over that of the dense model, interleaved, median. The guide looks at half
resolution with the same weights.
The last line is one JSON object: strategy and ratio -> [top-1, relative time].
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchclip import load, registry
from patchclip.contracts import Guided, Masker
from patchclip.evaluation._runner import evaluate
from patchclip.models.guide import Guide
from patchclip.models.towers import ClipEncoder

RESULT = Path(__file__).parent / "results" / "inference.json"
STRATEGIES = ("random", "resize", "pgs", "attentive")
RATIOS = (0.25, 0.5, 0.75)
SETS = ("zs_clipart", "zs_furniture", "zs_photo")
BATCH = 64


class Masked:
    """An encoder that sees a part of each image; everything else is the encoder's own."""

    def __init__(self, encoder: ClipEncoder, masker: Masker, seed: int) -> None:
        self.encoder, self.masker, self.seed = encoder, masker, seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Embeddings of what the masker keeps."""
        return self.encoder.encode_image(pixels, masking=self.masker, seed=self.seed)


def build(encoder: ClipEncoder, name: str, ratio: float) -> Masker:
    """A masker; one that asks for a guide looks with the encoder's own weights."""
    masker: Masker = registry.build("masking", name, mask_ratio=ratio)
    if isinstance(masker, Guided):
        masker.scorer = Guide(encoder.model, masker.score, getattr(masker, "resolution", 1.0))
    return masker


def accuracy(encoder: Any, root: str, sets: list[str]) -> float:
    """Zero-shot top-1, mean over sets, in per cent."""
    results = evaluate(encoder, root, sets, batch_size=BATCH)
    return 100 * statistics.mean(result.metrics["acc1"] for result in results)


def seconds(encoder: ClipEncoder, maskers: dict[str, Masker | None], rounds: int) -> dict[str, float]:
    """Median time of a batch over the dense model's of the same round."""
    pixels = torch.randn(BATCH, 3, encoder.image_size, encoder.image_size)
    times: dict[str, list[float]] = {name: [] for name in maskers}
    for number in range(rounds + 1):
        for name, masker in maskers.items():
            started = time.perf_counter()
            encoder.encode_image(pixels, masking=masker, seed=number)
            if encoder.device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    dense = times["dense"][1:]
    return {
        name: round(statistics.median(a / b for a, b in zip(mine[1:], dense, strict=True)), 3)
        for name, mine in times.items()
    }


def main() -> None:
    """Measures and prints; the full run also writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ViT-Ti-16:random")
    parser.add_argument("--data-root", default="samples")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    encoder = load(options.model)
    ratios = (0.5,) if options.quick else RATIOS
    seeds = range(1 if options.quick else options.seeds)
    sets = ["zs_clipart"] if options.quick else list(SETS)
    plans = {f"{name} {ratio}": (name, ratio) for name in STRATEGIES for ratio in ratios}
    maskers: dict[str, Masker | None] = {"dense": None}
    maskers |= {row: build(encoder, *plan) for row, plan in plans.items()}
    cost = seconds(encoder, maskers, 3 if options.quick else 15)
    table = {"dense": {"top-1": accuracy(encoder, options.data_root, sets), "std": 0.0, "time": 1.0}}
    for row, masker in maskers.items():
        if masker is None:
            continue
        found = [accuracy(Masked(encoder, masker, seed), options.data_root, sets) for seed in seeds]
        table[row] = {
            "top-1": round(statistics.mean(found), 2),
            "std": round(statistics.stdev(found), 2) if len(found) > 1 else 0.0,
            "time": cost[row],
        }
    content = {
        "what": f"zero-shot top-1 over {', '.join(sets)}; time of encode_image over dense, batch {BATCH}",
        "model": Path(options.model).name,
        "image_size": encoder.image_size,
        "threads": torch.get_num_threads(),
        "seeds": len(seeds),
        "table": table,
    }
    print(json.dumps(content, indent=1))
    if not options.quick:
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({row: [values["top-1"], values["time"]] for row, values in table.items()}))


if __name__ == "__main__":
    main()
