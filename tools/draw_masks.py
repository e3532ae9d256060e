"""Draws the masks of the documentation from the shipped photographs.

    python -m tools.draw_masks

Writes docs/images/masks.webp (every strategy that needs no guide, half of the patches dropped) and
docs/images/pgs_steps.webp (how a PGS mask comes about). The masks are those of a ViT with 16-pixel patches at
224 px at the start of training.
"""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from patchclip.data.benchmarks import benchmark_root
from patchclip.data.scenes import Scene
from patchclip.evaluation.mask_view import View, plain_view
from patchclip.evaluation.strategies import guide_of, parse
from patchclip.masking._edges import edge_energy, protected
from patchclip.report.mask_sheet import strategy_columns
from patchclip.report.sheet import Column, draw_sheet, faded, save_sheet

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WANTED = ("chelsea", "flower", "rocket", "astronaut", "coffee")
STEPS = (0.05, 0.2, 0.35, 0.5)


def photographs() -> list[Scene]:
    """Photographs of the shipped retrieval set."""
    with tarfile.open(benchmark_root("samples") / "retrieval_mixed" / "test" / "0.tar") as shard:
        files = {name: shard.extractfile(f"photo_{name}.webp") for name in WANTED}
        return [
            Scene(name, Image.open(io.BytesIO(file.read())).convert("RGB"))
            for name, file in files.items()
            if file is not None
        ]


def energy_map(energy: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Image.Image:
    """Edge energy a patch, dark is strong, on the square root of its own range."""
    relative = (energy / energy.max()).sqrt().view(grid).numpy()
    grey = Image.fromarray((255 * (1 - relative)).astype(np.uint8))
    return grey.resize(size, Image.Resampling.NEAREST).convert("RGB")


def steps(view: View) -> list[Column]:
    """Edge energy, protected patches, and the PGS mask at rising ratios."""
    masks = [parse(f"pgs:mask_ratio={ratio}", ratio, guide_of(None, None))[0][0] for ratio in STEPS]
    images, *growing = strategy_columns(view, masks, [mask.keep(view, 0) for mask in masks])
    energy = edge_energy(view.pixels, view.patches)
    size = images.pictures[0].size
    shielded = [
        faded(image, shield.nonzero().flatten(), view.grid)
        for image, shield in zip(images.pictures, protected(energy, 0.3), strict=True)
    ]
    return [
        images,
        Column("edge energy", [energy_map(row, view.grid, size) for row in energy], "Sobel, mean of a patch"),
        Column("protected", shielded, "strongest 30 %"),
        *(Column("pgs", c.pictures, f"{r:.0%} dropped") for c, r in zip(growing, STEPS, strict=True)),
    ]


def main() -> None:
    """Draws both sheets."""
    scenes = photographs()
    view = plain_view(scenes)
    found, _ = parse("all", 0.5, guide_of(None, None))
    columns = strategy_columns(view, found, [strategy.keep(view, 0) for strategy in found])
    save_sheet(draw_sheet(columns), IMAGES / "masks.webp")
    save_sheet(draw_sheet(steps(plain_view(scenes[:3]))), IMAGES / "pgs_steps.webp")


if __name__ == "__main__":
    main()
