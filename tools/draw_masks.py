"""Draws the masks of the documentation from the shipped photographs.

    python -m tools.draw_masks

Writes docs/images/masks.webp (image, edge energy, random 0.5, PGS 0.5) and docs/images/pgs_steps.webp (how a
PGS mask comes about). The masks are those of a ViT with 16-pixel patches at 224 px at the start of training.
"""

import io
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from patchclip.contracts import Masker
from patchclip.data.benchmarks import benchmark_root
from patchclip.data.transforms import denormalise, eval_transform
from patchclip.masking._edges import edge_energy, protected
from patchclip.masking.pgs import PGSMask
from patchclip.masking.random import RandomMask

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZE, GRID, GAP, HEAD = 224, 14, 8, 26
WANTED = ("chelsea", "flower", "rocket", "astronaut", "coffee", "china")


def photographs() -> Tensor:
    """Preprocessed photographs of the shipped retrieval set, [6, 3, 224, 224]."""
    transform = eval_transform(SIZE)
    with tarfile.open(benchmark_root("samples") / "retrieval_mixed" / "test" / "0.tar") as shard:
        files = [shard.extractfile(f"photo_{name}.webp") for name in WANTED]
        return torch.stack([transform(Image.open(io.BytesIO(f.read()))) for f in files if f is not None])


def keep_of(masker: Masker, pixels: Tensor) -> Tensor:
    """Boolean [b, l] of the patches kept at the start of training (tokens do not matter there)."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(len(pixels), GRID * GRID, 1)
    keep = masker.select(pixels, tokens, 0.0, generator)
    return torch.zeros(len(pixels), GRID * GRID, dtype=torch.bool).scatter_(1, keep, True)


def masked(picture: np.ndarray, keep: Tensor) -> Image.Image:
    """The picture with dropped patches faded to white."""
    share = np.kron(keep.view(GRID, GRID).numpy(), np.ones((16, 16)))[..., None]
    return Image.fromarray((picture * share + (0.12 * picture + 0.88 * 255) * (1 - share)).astype(np.uint8))


def energy_map(energy: Tensor) -> Image.Image:
    """Edge energy a patch, dark is strong, on the square root of its own range."""
    relative = (energy / energy.max()).sqrt().view(GRID, GRID).numpy()
    grey = Image.fromarray((255 * (1 - relative)).astype(np.uint8))
    return grey.resize((SIZE, SIZE), Image.Resampling.NEAREST).convert("RGB")


def sheet(columns: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Columns of pictures under their titles, on white."""
    rows = len(columns[0][1])
    size = (len(columns) * (SIZE + GAP) + GAP, rows * (SIZE + GAP) + GAP + HEAD)
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for x, (title, pictures) in enumerate(columns):
        left = GAP + x * (SIZE + GAP)
        draw.text((left + SIZE // 2, GAP + HEAD // 2), title, "#222222", font, anchor="mm")
        for y, picture in enumerate(pictures):
            page.paste(picture, (left, HEAD + GAP + y * (SIZE + GAP)))
    return page


def main() -> None:
    """Draws both sheets."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    pixels = photographs()
    pictures = list(denormalise(pixels).numpy())
    energy = edge_energy(pixels, GRID * GRID)
    originals = ("image", [Image.fromarray(p) for p in pictures])
    energies = ("edge energy (Sobel)", [energy_map(e) for e in energy])

    def drawn(title: str, keep: Tensor) -> tuple[str, list[Image.Image]]:
        return title, [masked(p, k) for p, k in zip(pictures, keep, strict=True)]

    random, pgs = keep_of(RandomMask(0.5), pixels), keep_of(PGSMask(0.5), pixels)
    columns = [originals, energies, drawn("random, half kept", random), drawn("PGS, half kept", pgs)]
    halves = [(title, pictures[:3]) for title, pictures in columns]
    halves += [(title, pictures[3:]) for title, pictures in columns]
    sheet(halves).save(IMAGES / "masks.webp", quality=88, method=6)
    growing = [
        drawn(f"PGS, {round(100 * r)} % masked", keep_of(PGSMask(r), pixels)) for r in (0.05, 0.2, 0.35, 0.5)
    ]
    steps = [originals, energies, drawn("protected", protected(energy, 0.3)), *growing]
    sheet([(title, pictures[:3]) for title, pictures in steps]).save(
        IMAGES / "pgs_steps.webp", quality=88, method=6
    )


if __name__ == "__main__":
    main()
