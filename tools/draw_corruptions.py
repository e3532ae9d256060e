"""Draws the corruptions of the documentation on a shipped photograph.

    python -m tools.draw_corruptions

Writes docs/images/corruptions.webp: the 15 kinds, five side by side, at severities 1, 3 and 5.
"""

import io
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from patchclip.data.benchmarks import benchmark_root
from patchclip.evaluation.corruption.views import KINDS, Corruption

OUTPUT = Path(__file__).parents[1] / "docs" / "images" / "corruptions.webp"
SEVERITIES = (1, 3, 5)
ACROSS, TILE, TITLE, GUTTER, GAP = 5, 160, 30, 22, 4


def photograph(name: str = "photo_chelsea.webp") -> Image.Image:
    """A photograph of the shipped retrieval set."""
    with tarfile.open(benchmark_root("samples") / "retrieval_mixed" / "test" / "0.tar") as shard:
        file = shard.extractfile(name)
        if file is None:
            raise FileNotFoundError(f"the sample set has no {name}")
        return Image.open(io.BytesIO(file.read())).convert("RGB")


def sheet(photo: Image.Image) -> Image.Image:
    """Kinds as columns in bands of five, severities as rows."""
    kinds = list(KINDS)
    band = TITLE + len(SEVERITIES) * (TILE + GAP)
    drawn = Image.new("RGB", (GUTTER + ACROSS * (TILE + GAP), band * (len(kinds) // ACROSS)), "white")
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(15)
    for number, kind in enumerate(kinds):
        left, top = GUTTER + number % ACROSS * (TILE + GAP), number // ACROSS * band
        pen.text((left, top + 8), kind.replace("_", " "), fill="black", font=font)
        for row, severity in enumerate(SEVERITIES):
            below = top + TITLE + row * (TILE + GAP)
            pen.text((6, below + TILE // 2 - 8), str(severity), fill="black", font=font)
            tile = Corruption(kind, severity)(photo, 0).resize((TILE, TILE), Image.Resampling.LANCZOS)
            drawn.paste(tile, (left, below))
    return drawn


if __name__ == "__main__":
    sheet(photograph()).save(OUTPUT, quality=80, method=6)
