"""Milliseconds an image of open-vocabulary segmentation, against plain loops and CLIPSeg, and peak memory.

    python benchmarks/segment.py            ViT-B/16 at 448 px; writes results/segment.json
    python benchmarks/segment.py --quick    336 px and 10 labels, sliding windows; writes nothing

Weights are random, pictures are noise: cost depends on neither. Ways to the same label map:

    ours         patchclip's Segmenter (naclip): text encoded once, windows of an image in one batch
    ours_bf16    the same at precision bf16
    plain        one window a forward pass (raw patch tokens, one MLP more than naclip), logits upsampled to
                 the window's pixels, summed, divided by the count, upsampled to the picture, softmax, argmax;
                 text encoded again for every picture, 77 tokens a text, as open_clip's examples do
    plain_cached the same with text encoded once, before the clock starts
    clipseg      transformers' CLIPSegForImageSegmentation at 352 px, ViT-B/16: every label is a forward pass
                 of picture and text; timed for a few labels and multiplied (cost is linear in labels)

The prompts are the same 7 a label everywhere but in CLIPSeg, which takes one. Times are medians of rounds in
which every way runs once; the peak is what a process of its own holds at most beyond the loaded model.
The last line is one JSON object.
"""

import argparse
import json
import logging
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from patchclip import load
from patchclip.dense.labels import PROMPTS
from patchclip.dense.segmenter import Inference, Segmenter
from patchclip.models.towers import ClipEncoder

RESULT = Path(__file__).parent / "results" / "segment.json"
MODEL = "ViT-B-16"
WINDOW, STRIDE = 224, 112
CLIPSEG_LABELS = 2
"""Labels that CLIPSeg is timed for."""

Way = Callable[[], Any]


def names(count: int) -> list[str]:
    """Labels of two words."""
    return [f"thing {i}" for i in range(count)]


def picture(side: int) -> Image.Image:
    """Noise."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8))


def ours(encoder: ClipEncoder, side: int, labels: int, sliding: bool) -> Way:
    """patchclip's Segmenter, made once."""
    asked = Inference("naclip", side, WINDOW if sliding else 0, STRIDE, background="none")
    segmenter = Segmenter(encoder, names(labels), asked)
    image = picture(side)
    return lambda: segmenter([image])


class Plain:
    """The loop that one writes with open_clip.

    Args:
        side: of the picture in pixels; without sliding windows the model is built for it.
        labels: how many.
        sliding: windows of 224 px every 112.
        cached: whether texts are encoded before the clock starts.
    """

    def __init__(self, side: int, labels: int, sliding: bool, cached: bool) -> None:
        size = WINDOW if sliding else side
        logging.getLogger().setLevel(logging.ERROR)  # it warns about random weights
        self.model: Any = open_clip.create_model(MODEL, force_image_size=size).eval()
        self.tokenizer = open_clip.get_tokenizer(MODEL)
        self.labels, self.window, self.image = names(labels), size, picture(side)
        self.texts = self.encode_texts() if cached else None

    @torch.no_grad()
    def encode_texts(self) -> Tensor:
        """Mean over the prompts of each label, all prompts of a label in one forward pass."""
        rows = []
        for name in self.labels:
            embedded = self.model.encode_text(self.tokenizer([t.format(name) for t in PROMPTS["pacl7"]]))
            rows.append(F.normalize(F.normalize(embedded, dim=-1).mean(0), dim=-1))
        return torch.stack(rows)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        texts = self.encode_texts() if self.texts is None else self.texts
        pixels = torch.from_numpy(np.array(self.image)).permute(2, 0, 1)[None].float() / 255
        pixels = (pixels - 0.45) / 0.27
        height, width = pixels.shape[2:]
        total, count = torch.zeros(1, len(texts), height, width), torch.zeros(1, 1, height, width)
        for top in range(0, height - self.window + 1, STRIDE):
            for left in range(0, width - self.window + 1, STRIDE):
                rows, columns = slice(top, top + self.window), slice(left, left + self.window)
                total[:, :, rows, columns] += self.logits(pixels[:, :, rows, columns], texts)
                count[:, :, rows, columns] += 1
        logits = F.interpolate(total / count, size=(height, width), mode="bilinear")
        return (logits * self.model.logit_scale.exp()).softmax(dim=1).argmax(dim=1)

    def logits(self, view: Tensor, texts: Tensor) -> Tensor:
        """Cosines of one window at its pixels."""
        visual = self.model.visual
        found = visual.forward_intermediates(
            view, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
        )
        features = F.normalize(found["image_intermediates"][-1] @ visual.proj, dim=-1)
        side = int(features.shape[1] ** 0.5)
        cosines = (features @ texts.T).transpose(1, 2).unflatten(2, (side, side))
        return F.interpolate(cosines, size=view.shape[2:], mode="bilinear")


def clipseg() -> Way:
    """CLIPSeg for a few labels; no download: random weights of the published size."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    config = CLIPSegConfig(vision_config={"patch_size": 16, "image_size": 224})
    model = CLIPSegForImageSegmentation(config).eval()
    pixels = torch.randn(CLIPSEG_LABELS, 3, 352, 352)
    tokens = torch.full((CLIPSEG_LABELS, 8), 320)
    tokens[:, -1] = 49407  # end of text

    def run() -> Tensor:
        with torch.no_grad():
            found: Tensor = model(input_ids=tokens, pixel_values=pixels, interpolate_pos_encoding=True).logits
        return found

    return run


def made(name: str, side: int, labels: int, sliding: bool) -> Way:
    """One way, ready to run."""
    if name.startswith("ours"):
        precision = "bf16" if name == "ours_bf16" else "fp32"
        return ours(load(f"{MODEL}:random", precision=precision), side, labels, sliding)
    return clipseg() if name == "clipseg" else Plain(side, labels, sliding, name == "plain_cached")


def milliseconds(ways: dict[str, Way], rounds: int, once: tuple[str, ...] = ()) -> dict[str, float]:
    """Median over rounds in which every way runs once; ways of `once` run in the first round only."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            if number and name in once:
                continue
            started = time.perf_counter()
            way()
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: round(statistics.median(mine), 1) for name, mine in times.items()}


def peak(name: str, side: int, labels: int, sliding: bool) -> float:
    """MiB that a process of its own holds at most beyond the loaded model."""
    arguments = ["--peak", name, "--side", str(side), "--labels", str(labels)]
    command = [sys.executable, __file__, *arguments, *(["--sliding"] if sliding else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_peak(name: str, side: int, labels: int, sliding: bool) -> None:
    """Prints the growth of the highest memory use over one run."""
    way = made(name, side, labels, sliding)
    held = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forget the peak of loading
    way()
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    highest = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    print(round((highest - held) / 2**20, 1))


def table(side: int, cases: list[tuple[int, bool]], rounds: int, peaks: bool) -> Iterator[dict[str, Any]]:
    """A row for each number of labels, whole and sliding, as soon as it is measured."""
    encoder, peer = load(f"{MODEL}:random"), clipseg()
    half = load(f"{MODEL}:random", precision="bf16")
    for labels, sliding in cases:
        ways: dict[str, Way] = {"ours": ours(encoder, side, labels, sliding)}
        ways |= {n: Plain(side, labels, sliding, n == "plain_cached") for n in ("plain", "plain_cached")}
        ways |= {"ours_bf16": ours(half, side, labels, sliding), "clipseg": peer}
        found = milliseconds(ways, rounds, once=("plain",) if labels > 20 else ())
        found["clipseg"] = round(found["clipseg"] / CLIPSEG_LABELS * labels, 1)
        row: dict[str, Any] = {"labels": labels, "windows": "sliding" if sliding else "one", "ms": found}
        for name in ("ours_bf16", "plain", "plain_cached", "clipseg"):
            row[f"{name}_over_ours"] = round(found[name] / found["ours"], 2)
        if peaks:
            row["peak_mib"] = {n: peak(n, side, labels, sliding) for n in ("ours", "plain_cached")}
        yield row


def main() -> None:
    """Measures and prints; the full run also writes, a case at a time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--sliding", action="store_true")
    parser.add_argument("--peak", help="for the benchmark itself: measure the memory of one way")
    options = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    if options.peak:
        measure_peak(options.peak, options.side, options.labels, options.sliding)
        return
    side = 336 if options.quick else options.side
    cases = [(10, True)] if options.quick else [(20, True), (20, False), (150, True), (150, False)]
    rounds = 2 if options.quick else options.rounds
    rows: list[dict[str, Any]] = []
    content = {
        "what": f"milliseconds an image of {side} px, {MODEL}, fp32; windows of {WINDOW} px every {STRIDE}",
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "rounds": rounds,
        "rows": rows,
    }
    for row in table(side, cases, rounds, peaks=not options.quick):
        rows.append(row)
        if not options.quick:
            RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))
    chosen = next(row for row in rows if row["windows"] == "sliding")
    print(
        json.dumps(
            {
                "plain_loop_over_ours": chosen["plain_over_ours"],
                "plain_loop_cached_text_over_ours": chosen["plain_cached_over_ours"],
                "clipseg_over_ours": chosen["clipseg_over_ours"],
            }
        )
    )


if __name__ == "__main__":
    main()
