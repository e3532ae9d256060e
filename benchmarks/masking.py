"""What each mask costs and keeps: selection alone, the whole step against its peers, memory, foreground.

    python benchmarks/masking.py            ViT-B/16, 224 px, batch 8; writes results/masking.json
    python benchmarks/masking.py --quick    batch 4, under 50 s on two cores; writes nothing

Steps are interleaved in one process with one model and one optimiser; a round is one step of each, ratios
are taken within a round, in processor and in wall time, then their median. Selection alone is timed on 16
images. Peers: dense CLIP, open_clip's own PatchDropout (FLIP), and `pgs_released`, which does what the code
released with CLIP-PGS does, attention bias included, but for its host syncs. Memory is what autograd keeps
for the backward. The last line is one JSON object: released_pgs_over_pgs, pgs_over_random,
pgs_over_open_clip_flip, mask_ms, foreground_kept.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import PatchDropout
from torch import Tensor

from foreground import composites, kept_share
from patchclip import registry
from patchclip.contracts import Guided, Masker
from patchclip.masking.none import NoMask
from patchclip.models.masked import attach, find_seat
from step_time import Bench, step_macs

RESULT = Path(__file__).parent / "results" / "masking.json"
FLIP = "open_clip PatchDropout"
QUICK = ("none", "random", "pgs", "pgs_released")
FOREGROUND = ("random", "cluster", "pgs", "pgs_released")


def guide_free(ratio: float) -> dict[str, Masker]:
    """Every registered masker that needs no other network."""
    found = {}
    for name in registry.names("masking"):
        options = {} if name == "none" else {"mask_ratio": ratio}
        masker = registry.build("masking", name, **options)
        if not isinstance(masker, Guided):
            found[name] = masker
    return found


class Rig(Bench):
    """The bench of step_time.py with open_clip's own dropout as a peer, processor time and saved bytes."""

    def place(self, name: str, maskers: dict[str, Masker]) -> None:
        """Puts a mask, or open_clip's PatchDropout, into the model."""
        self.count += 1
        self.slot = self.step.slot = attach(self.model, maskers.get(name, NoMask()))
        self.slot.progress, self.slot.seed = 0.4 + self.count / 1000, (0, self.count)
        if name == FLIP:
            self.step.slot = None
            find_seat(self.model).place(PatchDropout(0.5).train())

    def timed(self, name: str, maskers: dict[str, Masker]) -> tuple[float, float]:
        """One step: (wall seconds, processor seconds)."""
        self.place(name, maskers)
        wall, cpu = self.now(), time.process_time()
        self.step(self.pixels, self.tokens, (0, self.count, 0), lambda loss: loss)
        self.clipper(self.model.named_parameters())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return self.now() - wall, time.process_time() - cpu

    def saved_bytes(self, name: str, maskers: dict[str, Masker]) -> int:
        """Bytes that the forward of both towers keeps for the backward, each storage once."""
        self.place(name, maskers)
        kept: dict[int, int] = {}
        parameters = {p.untyped_storage().data_ptr() for p in self.model.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = self.step.net(self.pixels, self.tokens)
        total = sum(kept.values())
        del out
        return total

    def selection(self, masker: Masker, pixels: Tensor, repeats: int) -> float:
        """Median milliseconds of choosing patches for `pixels`, tokens 768 wide."""
        tokens = torch.randn(len(pixels), 196, 768, device=self.device)
        generator = torch.Generator(self.device).manual_seed(0)
        times = []
        for _ in range(repeats + 1):
            started = self.now()
            masker.select(pixels, tokens, 0.5, generator)
            times.append(1000 * (self.now() - started))
        return statistics.median(times[1:])


def measure(
    rig: Rig, names: list[str], maskers: dict[str, Masker], more: Callable[[int], bool]
) -> dict[str, list[tuple[float, float]]]:
    """Rounds of one step of each, the first unmeasured, every second one backwards."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for name in names:
        rig.timed(name, maskers)
    rounds = 0
    while more(rounds):
        for name in names if rounds % 2 else names[::-1]:
            times[name].append(rig.timed(name, maskers))
        rounds += 1
    return times


def ratio(mine: list[tuple[float, float]], theirs: list[tuple[float, float]], which: int) -> float:
    """Median over rounds of mine / theirs; `which` is 0 for wall time, 1 for processor time."""
    pairs = zip(mine, theirs, strict=True)
    return round(statistics.median(a[which] / b[which] for a, b in pairs), 4)


def table(
    rig: Rig, times: dict[str, list[tuple[float, float]]], maskers: dict[str, Masker], pixels: Tensor
) -> dict[str, dict[str, Any]]:
    """The row of each variant."""
    rows = {}
    dense_bytes = rig.saved_bytes("none", maskers)
    for name, mine in times.items():
        kept = maskers[name].kept(196, 0.5) if name in maskers else 98
        step = statistics.median(wall for wall, _ in mine)
        rows[name] = {
            "kept": kept,
            "median_s": round(step, 4),
            "over_dense_cpu": ratio(mine, times["none"], 1),
            "over_dense_wall": ratio(mine, times["none"], 0),
            "flop_limit": round(step_macs(kept) / step_macs(196), 4),
            "saved_over_dense": round(rig.saved_bytes(name, maskers) / dense_bytes, 4),
        }
        if name in maskers:
            mask_ms = rig.selection(maskers[name], pixels, 7)
            share = mask_ms / 1000 / (step * len(pixels) / len(rig.pixels))
            rows[name] |= {"mask_ms": round(mask_ms, 2), "mask_share": round(share, 5)}
    return rows


def main() -> None:
    """Measures, prints, and writes the full run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    started = time.perf_counter()
    maskers = guide_free(0.5)
    rig = Rig(4 if options.quick else options.batch, "fp32")
    names = [*QUICK, FLIP] if options.quick else [*maskers, FLIP]
    limit = 3 if options.quick else options.rounds
    times = measure(
        rig,
        names,
        maskers,
        lambda done: (
            done < 1 or (done < limit and not (options.quick and time.perf_counter() - started > 22))
        ),
    )
    batch, area, _ = composites(40 if options.quick else 300)
    rows = table(rig, times, maskers, batch[:16].to(rig.device))
    kept = {name: round(kept_share(maskers[name], batch, area, 0).mean().item(), 3) for name in FOREGROUND}
    keys = {
        "released_pgs_over_pgs": ratio(times["pgs_released"], times["pgs"], 1),
        "pgs_over_random": ratio(times["pgs"], times["random"], 1),
        "pgs_over_open_clip_flip": ratio(times["pgs"], times[FLIP], 1),
        "mask_ms": rows["pgs"]["mask_ms"],
        "foreground_kept": kept,
    }
    content = {
        "what": "ViT-B/16, 224 px, ratio 0.5: forward, backward, clipping and AdamW; selection of 16 images",
        "batch": len(rig.pixels),
        "device": torch.cuda.get_device_name() if rig.device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "rounds": len(times["pgs"]),
        "composites": len(batch),
        "variants": rows,
        **keys,
    }
    print(json.dumps(content, indent=1))
    if not options.quick:
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(keys))


if __name__ == "__main__":
    main()
