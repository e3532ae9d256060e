"""PACL on a small CLIP that this script trains, against reading its patches without training.

    python benchmarks/alignment.py [--folder RUNS] [--seeds 3] [--output FILE]
    python benchmarks/alignment.py --quick       a few steps of everything, on 16 scenes; writes nothing

For each seed: a CLIP on composed training scenes, heads on it, and the shipped test scenes, whose pictures no
training scene shows. Runs that lie in `--folder` already are not repeated. Writes
benchmarks/results/alignment.json.
"""

import argparse
import contextlib
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor

from _alignment_sets import SIDE, object_crops, scene_labels, studied_nouns, studied_scenes, write_scenes
from patchclip import Segmenter, __version__, evaluate, load, load_config, train
from patchclip.data.sets import Segmented
from patchclip.dense.inference import Inference
from patchclip.heads._pairwise import directions, weights
from patchclip.heads.pacl import PACLHead

RESULT = Path(__file__).parent / "results" / "alignment.json"
DEEP = ("clip_surgery:depth=2", "gem:depth=2", "resclip:first=1;last=2")
UNTRAINED = ("raw", "maskclip", "sclip", "clearclip", "naclip", *DEEP)
"""All methods but proxyclip, whose proxy is a pretrained network that was not at hand."""

SCENES = 8000
STEPS = 3
"""Of every training with --quick."""

PROMPTS = "plain"
POINTED = 60
"""Scenes on which pointing is measured."""

BASE = [
    "model.overrides={embed_dim: 128, vision_cfg: {layers: 4, width: 128}, "
    "text_cfg: {layers: 2, width: 128, heads: 2}}",
    f"model.image_size={SIDE}",
    "model.context_length=24",
    "masking.name=none",
    "optim.lr=5e-4",
    *("train.epochs=16", "train.batch_size=64"),
]
ALIGN = [
    "model.pretrained=null",
    "data.workers=0",
    "data.augment=none",
    "data.nouns=0",
    "optim.lr=1e-3",
    *("train.epochs=10", "train.batch_size=64"),
]
VARIANTS: dict[str, list[str]] = {
    "pacl": [],
    **{f"temperature {tau}": [f"head.temperature={tau}"] for tau in ("1", "0.07", "0.03")},
    "mean pooling": ["head.temperature=1000"],
    "own-text pooling": [],
    "noun prompts": ["data.nouns=0.5"],
    "same texts negative": ["loss.same_text=negative"],
}
"""Name -> settings beside `ALIGN`; "own-text pooling" is the leak of the public re-implementations."""


def own_text(self: PACLHead, patches: Tensor, texts: Tensor) -> Tensor:
    """Scores after an image has pooled with its own text, whatever text it is compared with."""
    units = directions(texts.float())
    _, shares = weights(patches.float(), units, self.temperature)
    own = torch.stack([share[i] for i, share in enumerate(shares)])
    pooled = (own.unsqueeze(1) @ patches.float()).squeeze(1)
    return directions(pooled) @ units.T


@contextlib.contextmanager
def leaking() -> Iterator[None]:
    """Has heads trained by own-text pooling, for the control."""
    exact = PACLHead.compatibility
    PACLHead.compatibility = own_text  # type: ignore[method-assign]
    try:
        yield
    finally:
        PACLHead.compatibility = exact  # type: ignore[method-assign]


def run(folder: Path, recipe: str, settings: list[str], seed: int) -> dict[str, float]:
    """Trains what a recipe and settings say, once; processor seconds and last loss."""
    kept = folder / "result.json"
    if not kept.is_file():
        started = time.process_time()
        fixed = [f"train.seed={seed}", f"output={folder}", "train.threads=1", "eval.datasets=[]"]
        fixed += ["tracking.tensorboard=false", "checkpoint.every=100000"]
        train(load_config(recipe, [*settings, *fixed]))
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
        loss = statistics.mean(line["loss"] for line in lines[-5:] if line["kind"] == "train")
        found = {"seconds": round(time.process_time() - started, 1), "loss": round(loss, 4)}
        kept.write_text(json.dumps(found), "utf-8")
    found = json.loads(kept.read_text("utf-8"))
    return {key: float(found[key]) for key in ("seconds", "loss")}


def pointing(encoder: Any, scenes: Segmented, method: str) -> float:
    """Share of objects whose noun's best patch has its centre on them; the pointing game."""
    inference = Inference(method=method, background="none", prompts=PROMPTS)
    segmenter = Segmenter(encoder, scenes.synonyms, inference)
    numbers = range(min(POINTED, len(scenes)))
    hits = []
    for i, found in zip(numbers, segmenter.each([scenes.images[i] for i in numbers]), strict=True):
        mask = scenes.masks[i]
        for label in np.unique(mask[mask >= 0]).tolist():
            x, y = found.place(int(found.scores[label].argmax()))
            hits.append(mask[int(y), int(x)] == label)
    return float(np.mean(hits))


def segmented(encoder: Any, scenes: Segmented, method: str) -> dict[str, float]:
    """mIoU, pixel accuracy and pointing in per cent; the scores of one label an image beside them."""
    suite = f"segmentation:method={method.replace(';', '+')};prompts={PROMPTS}"
    [result] = evaluate(encoder, suite, datasets=[scenes])
    found = {name: result.metrics[name] for name in ("miou", "pixel_accuracy")}
    found["pointing"] = pointing(encoder, scenes, method)
    one = result.details["one_label"]
    found |= {f"one label {name}": one[name] for name in ("miou", "pixel_accuracy")}
    return {name: 100 * value for name, value in found.items()}


def named(encoder: Any, scenes: Segmented, by: str, method: str = "auto") -> dict[str, float]:
    """Image-level zero-shot in per cent: objects cut out of the scenes, and what whole scenes show."""
    how = "" if by == "image" else f":by=patches;method={method}"
    results = evaluate(encoder, f"classification{how}", datasets=[object_crops(scenes), scene_labels(scenes)])
    crops, labels = (result.metrics for result in results)
    return {
        "crops acc1": 100 * crops["acc1"],
        "crops acc5": 100 * crops["acc5"],
        "scenes mAP": 100 * labels["mean_average_precision"],
    }


@dataclass
class Seed:
    """The rows of one seed; those that lie in the folder already are read."""

    number: int
    scenes: Segmented
    options: argparse.Namespace

    def rows(self) -> dict[str, dict[str, float]]:
        """A row for the base model, each method without training, and each head."""
        for name in ("base", *self.options.untrained, "class token", "naclip patches"):
            self._row(name, lambda name=name: self._base(name))
        for name in self.options.variants:
            self._row(name, lambda name=name: self._head(name))
        kept = json.loads(self._file.read_text("utf-8"))
        return {name: {key: float(value) for key, value in row.items()} for name, row in kept.items()}

    @property
    def _file(self) -> Path:
        return Path(self.options.folder) / f"rows-{self.number}.json"

    def _row(self, name: str, make: Callable[[], dict[str, float]]) -> None:
        rows = json.loads(self._file.read_text("utf-8")) if self._file.is_file() else {}
        if name not in rows:
            rows[name] = make()
            print(f"seed {self.number}: {name} {rows[name]}", file=sys.stderr, flush=True)
            self._file.write_text(json.dumps(rows), "utf-8")

    @property
    def _settings(self) -> list[str]:
        shard = self.options.folder / f"scenes-{self.options.count}.tar"
        if not shard.is_file():
            write_scenes(shard, studied_nouns(), self.options.count, 0)
        return [f"data.pairs={shard}", *([f"train.max_steps={STEPS}"] if self.options.quick else [])]

    def _base(self, name: str) -> dict[str, float]:
        folder = self.options.folder / f"base-{self.number}"
        trained = run(folder, "demo", [*BASE, *self._settings, *self.options.override], self.number)
        if name == "base":
            return trained
        encoder = load(folder)
        if name == "class token":
            return named(encoder, self.scenes, "image")
        if name == "naclip patches":
            return named(encoder, self.scenes, "patches", "naclip")
        return segmented(encoder, self.scenes, name)

    def _head(self, name: str) -> dict[str, float]:
        folder = self.options.folder / f"{name.replace(' ', '-')}-{self.number}"
        base = self.options.folder / f"base-{self.number}"
        patches = self.options.folder / f"features-{self.number}"
        settings = [f"model.name={base}", *ALIGN, f"data.features={patches}", *self._settings]
        with leaking() if name == "own-text pooling" else contextlib.nullcontext():
            trained = run(folder, "pacl_vit_b16", [*settings, *VARIANTS[name]], self.number)
        aligned = load(folder)
        return trained | segmented(aligned, self.scenes, "pacl") | named(aligned, self.scenes, "patches")


def table(seeds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and standard deviation of every row's columns over the seeds that have it."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(name for each in seeds for name in each):
        found = [each[name] for each in seeds if name in each]
        rows[name] = {
            key: {
                "mean": round(statistics.mean(row[key] for row in found), 2),
                "std": round(statistics.stdev(row[key] for row in found) if len(found) > 1 else 0.0, 2),
                "seeds": len(found),
            }
            for key in found[0]
        }
    return rows


def chance(scenes: Segmented) -> dict[str, float]:
    """Per cent of a random label for each pixel, and of a random point."""
    masks = [scenes.masks[i] for i in range(len(scenes))]
    counts = sum(np.bincount(mask[mask >= 0], minlength=len(scenes.classnames)) for mask in masks)
    k, total = len(counts), counts.sum()
    there = counts[counts > 0]
    areas = [
        (mask == label).mean() for mask in masks[:POINTED] for label in np.unique(mask[mask >= 0]).tolist()
    ]
    return {
        "miou": round(100 * float((there / (total + (k - 1) * there)).mean()), 2),
        "pixel_accuracy": round(100 / k, 2),
        "pointing": round(100 * float(np.mean(areas)), 2),
        "crops acc1": round(100 / k, 2),
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="keeps the runs; default: a temporary folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS], default=[*VARIANTS])
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="a few steps, one seed; writes nothing")
    parser.add_argument("override", nargs="*", help="key=value for the base model")
    options = parser.parse_args()
    options.count, options.untrained = SCENES, UNTRAINED
    if options.quick:
        options.count, options.seeds = 160, 1
        options.untrained, options.variants = ("raw", "naclip"), ["pacl", "own-text pooling"]
    return options


def main() -> None:
    """Runs the study and writes its results."""
    options = arguments()
    torch.set_num_threads(1)
    scenes = studied_scenes(studied_nouns())
    if options.quick:
        images, masks = (replace(each, numbers=each.numbers[:16]) for each in (scenes.images, scenes.masks))
        scenes = replace(scenes, images=images, masks=masks)
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        options.folder.mkdir(parents=True, exist_ok=True)
        numbers = range(options.first, options.first + options.seeds)
        seeds = [Seed(seed, scenes, options).rows() for seed in numbers]
    content = {
        "what": "PACL on a small CLIP trained on composed scenes, and the same CLIP read without training",
        "images": len(scenes),
        "objects": int(scene_labels(scenes).labels.sum()),
        "nouns": list(scenes.classnames),
        "base": BASE + options.override,
        "align": ALIGN,
        "scenes": options.count,
        "seeds": list(numbers),
        "threads": 1,
        "machine": platform.processor() or platform.machine(),
        "versions": {
            **{"patchclip": __version__, "python": platform.python_version()},
            **{"torch": torch.__version__, "open_clip": open_clip.__version__},
        },
        "chance": chance(scenes),
        "table": table(seeds),
        "runs": seeds,
    }
    if not options.quick:
        options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"chance": content["chance"], "table": content["table"]}, indent=1))


if __name__ == "__main__":
    main()
