"""How much of the foreground each mask keeps, on composites of the shipped pictures with exact masks.

    python benchmarks/foreground.py            300 composites; writes benchmarks/results/foreground.json
    python benchmarks/foreground.py --quick    60 composites; writes nothing

Renders with an alpha channel are pasted onto the shipped photographs, at random size and place: what the
alpha covers is the foreground. Kept share = the foreground's area in kept patches over all of it; a mask that
knows nothing keeps (1 - ratio). The last line is one JSON object: pgs_kept, pgs_kept_p5, pgs_kept_textured,
random_kept, foreground_kept (mean of random, cluster, pgs and pgs_released).
"""

import argparse
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from patchclip import registry
from patchclip.contracts import Masker
from patchclip.data.benchmarks import benchmark_root
from patchclip.data.transforms import eval_transform

RESULT = Path(__file__).parent / "results" / "foreground.json"
SAMPLES = benchmark_root("samples").parent
TEXTURED, SMOOTH = ("brick", "grass", "gravel"), ("china", "hubble_deep_field", "rocket", "flower", "retina")
SIZE, GRID = 224, 14
SEEDS = 2
SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "grid": ("grid", {}),
    "block": ("block", {}),
    "block, dropped": ("block", {"blocks": "dropped"}),
    "cluster": ("cluster", {}),
    "pgs_released": ("pgs_released", {}),
    "pgs": ("pgs", {}),
    "pgs edges=scharr": ("pgs", {"edges": "scharr"}),
    "pgs edges=laplacian": ("pgs", {"edges": "laplacian"}),
    "pgs transport=false": ("pgs", {"transport": False}),
    "pgs growth_steps=1": ("pgs", {"growth_steps": 1}),
    "pgs contrast=1": ("pgs", {"contrast": 1.0}),
    "pgs contrast=1, protect=0.4": ("pgs", {"contrast": 1.0, "protect": 0.4}),
    "pgs contrast=1, edges=scharr": ("pgs", {"contrast": 1.0, "edges": "scharr"}),
    "pgs contrast=1, edges=laplacian": ("pgs", {"contrast": 1.0, "edges": "laplacian"}),
    "pgs edges=none": ("pgs", {"edges": "none"}),
    "pgs contrast=1, transport=false": ("pgs", {"contrast": 1.0, "transport": False}),
    "pgs contrast=1, growth_steps=1": ("pgs", {"contrast": 1.0, "growth_steps": 1}),
}
"""Row of the table -> masker and its options: all that need no other network, and the ablations of PGS."""


def members(shard: Path, chosen: str) -> Iterator[Image.Image]:
    """The images of a shard whose name holds `chosen`."""
    with tarfile.open(shard) as tar:
        for member in tar:
            file = (
                tar.extractfile(member) if member.name.endswith(".webp") and chosen in member.name else None
            )
            if file is not None:
                yield Image.open(io.BytesIO(file.read()))


def cutouts(count: int) -> list[Image.Image]:
    """Shipped renders with an alpha channel, spread over the shards."""
    found = []
    for shard in sorted((SAMPLES / "train").glob("*.tar")):
        found += [image.convert("RGBA") for image in members(shard, "") if "A" in image.getbands()]
    return found[:: max(1, len(found) // count)][:count]


def backgrounds() -> dict[str, Image.Image]:
    """Shipped photographs by name."""
    shard = SAMPLES / "test" / "retrieval_mixed" / "test" / "0.tar"
    return {name: next(members(shard, f"photo_{name}.")).convert("RGB") for name in (*TEXTURED, *SMOOTH)}


def compose(
    cutout: Image.Image, background: Image.Image, rng: np.random.Generator
) -> tuple[Image.Image, Tensor]:
    """One composite and its alpha [SIZE, SIZE] in [0, 1]; cut-outs are stored with their colours on white."""
    page = np.asarray(background.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32)
    scale = rng.uniform(0.35, 0.7) * SIZE / max(cutout.size)
    piece = cutout.resize([max(1, round(scale * side)) for side in cutout.size], Image.Resampling.LANCZOS)
    data = np.asarray(piece, dtype=np.float32)
    y, x = (int(rng.integers(0, SIZE - side + 1)) for side in data.shape[:2])
    box = np.s_[y : y + data.shape[0], x : x + data.shape[1]]
    alpha = np.zeros((SIZE, SIZE, 1), dtype=np.float32)
    alpha[box] = data[..., 3:] / 255
    mixed = page.copy()
    mixed[box] = data[..., :3] - 255 * (1 - alpha[box]) + page[box] * (1 - alpha[box])
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8)), torch.from_numpy(alpha[..., 0])


def kept_share(masker: Masker, pixels: Tensor, area: Tensor, seed: int) -> Tensor:
    """Share [b] of each foreground's area that lies in kept patches."""
    patches = area.shape[1]
    generator = torch.Generator().manual_seed(seed)
    keep = [
        masker.select(part, torch.zeros(len(part), patches, 1), 0.0, generator) for part in pixels.split(50)
    ]
    return area.gather(1, torch.cat(keep)).sum(dim=1) / area.sum(dim=1)


def summary(kept: Tensor, textured: Tensor) -> dict[str, float]:
    """Of kept shares [seeds, images]: means, the worst twentieth, and the standard error over images."""
    parts = {"mean": kept, "textured": kept[:, textured], "smooth": kept[:, ~textured]}
    row = {part: round(values.mean().item(), 3) for part, values in parts.items()}
    row["p5"] = round(kept.flatten().quantile(0.05).item(), 3)
    row["standard_error"] = round((kept.mean(dim=0).std() / kept.shape[1] ** 0.5).item(), 4)
    return row


def composites(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [n, 3, SIZE, SIZE], foreground share of each patch [n, l], which backgrounds are textures."""
    rng, transform, photos = np.random.default_rng(0), eval_transform(SIZE), backgrounds()
    pixels, areas, names = [], [], []
    for cutout in cutouts(count):
        name = str(rng.choice(list(photos)))
        image, alpha = compose(cutout, photos[name], rng)
        pixels.append(transform(image))
        areas.append(F.avg_pool2d(alpha[None], SIZE // GRID).flatten())
        names.append(name)
    return torch.stack(pixels), torch.stack(areas), torch.tensor([name in TEXTURED for name in names])


def main() -> None:
    """Composes, masks, measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    batch, area, textured = composites(60 if options.quick else 300)
    table: dict[str, dict[str, float]] = {}
    for row, (name, settings) in SPECS.items():
        masker = registry.build("masking", name, mask_ratio=0.5, **settings)
        kept = [kept_share(masker, batch, area, seed) for seed in range(1 if options.quick else SEEDS)]
        table[row] = summary(torch.stack(kept), textured)
    content = {
        "what": "share of the foreground's area kept at ratio 0.5, 224 px, 14 x 14 patches",
        "composites": len(batch),
        "foreground_share_of_area": round(area.mean().item(), 3),
        "maskers": table,
    }
    print(json.dumps(content, indent=1))
    if not options.quick:
        RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    pgs, random = table["pgs"], table["random"]
    keys = {"pgs_kept": pgs["mean"], "pgs_kept_p5": pgs["p5"], "pgs_kept_textured": pgs["textured"]}
    means = {name: table[name]["mean"] for name in ("random", "cluster", "pgs", "pgs_released")}
    print(json.dumps({**keys, "random_kept": random["mean"], "foreground_kept": means}))


if __name__ == "__main__":
    main()
