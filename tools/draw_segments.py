"""Draws the pictures of docs/segment.md: regions with their legend, and where phrases are.

    python -m tools.draw_segments --model RUN --scenes 0 7 40
    python -m tools.draw_segments --model ViT-B-16:openai photo.jpg --labels "cat, grass" --phrases "the cat"

Without images the shipped test scenes are drawn; labels are then the nouns of all scenes shown, so that each
scene is asked for things it does not hold. Writes docs/images/segments.webp, one overlay a picture, and
docs/images/points.webp, one phrase a picture. With --exact a second row shows the exact masks of the scenes.
"""

import argparse
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import patchclip
from patchclip._cli_dense import read_labels
from patchclip.data.benchmarks import benchmark_root
from patchclip.data.pictures import read_picture
from patchclip.dense.overlay import draw_overlay
from patchclip.dense.pointing import point
from patchclip.report.sheet import save_sheet

IMAGES = Path(__file__).parents[1] / "docs" / "images"
GAP = 16


@dataclass(frozen=True)
class Shown:
    """A picture, what is asked of it, and where things truly are if that is known.

    Attributes:
        image: RGB.
        phrase: to point at.
        nouns: of its things, in the order of the ids in `ids`.
        ids: thing of every pixel, 0 for the ground; None where it is not known.
    """

    image: Image.Image
    phrase: str
    nouns: tuple[str, ...] = ()
    ids: np.ndarray | None = None


def scene(number: int) -> Shown:
    """A shipped test scene by its number; the phrase is its first thing."""
    root = benchmark_root("samples") / "scenes" / "test"
    key = f"scenes_{number:05d}"
    with tarfile.open(root / "0.tar") as shard:

        def part(ending: str) -> io.BytesIO:
            file = shard.extractfile(f"{key}.{ending}")
            if file is None:
                raise FileNotFoundError(f"{key}.{ending}")
            return io.BytesIO(file.read())

        things = sorted(json.load(part("json"))["objects"], key=lambda thing: int(thing["id"]))
        image = Image.open(part("webp")).convert("RGB")
        ids = np.asarray(Image.open(part("inst.png")), dtype=np.int64)
    first = things[0]
    words = " ".join(filter(None, (first.get("attribute"), first["noun"])))
    return Shown(image, f"the {words}", tuple(thing["noun"] for thing in things), ids)


def exact(shown: Shown, labels: Sequence[str]) -> Image.Image:
    """The exact masks of a scene, drawn like a segmentation."""
    if shown.ids is None:
        raise ValueError("a picture without masks has no exact overlay")
    numbers = np.array([0, *(labels.index(noun) + 1 for noun in shown.nouns)])
    return draw_overlay(shown.image, numbers[shown.ids], tuple(labels))


def in_rows(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pages side by side on white, the rows below each other."""
    heights = [max(page.height for page in row) for row in rows]
    widths = [sum(page.width for page in row) + GAP * (len(row) - 1) for row in rows]
    sheet = Image.new("RGB", (max(widths), sum(heights) + GAP * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for page in row:
            sheet.paste(page, (left, top))
            left += page.width + GAP
        top += height + GAP
    return sheet


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", nargs="*", type=Path, help="photographs; without, the shipped scenes")
    parser.add_argument("--model", required=True, help="what patchclip.load takes")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--background", default="auto")
    parser.add_argument("--refine", help="a refinement")
    parser.add_argument("--step", type=int, help="pixels between patches")
    parser.add_argument("--labels", default="", help="as for patchclip segment; needed with images")
    parser.add_argument("--phrases", nargs="*", default=[], help="one a photograph")
    parser.add_argument("--scenes", nargs="*", type=int, default=[0, 7, 40], help="numbers of shipped scenes")
    parser.add_argument("--exact", action="store_true", help="add a row with the exact masks")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder of the two pictures")
    return parser.parse_args()


def main() -> None:
    """Draws both pictures."""
    asked = arguments()
    if asked.images:
        phrases = asked.phrases or [""] * len(asked.images)
        shown = [
            Shown(read_picture(path), phrase) for path, phrase in zip(asked.images, phrases, strict=True)
        ]
    else:
        shown = [scene(number) for number in asked.scenes]
    nouns = dict.fromkeys(noun for each in shown for noun in each.nouns)
    labels = read_labels(asked.labels) if asked.labels else [(noun,) for noun in nouns]
    encoder = patchclip.load(asked.model)
    options = {"method": asked.method, "refine": asked.refine, "step": asked.step}
    found = patchclip.segment(
        [each.image for each in shown], labels, encoder, background=asked.background, **options
    )
    rows = [[each.overlay() for each in found]]
    if asked.exact:
        rows.append([exact(each, [names[0] for names in labels]) for each in shown])
    asked.output.mkdir(parents=True, exist_ok=True)
    save_sheet(in_rows(rows), asked.output / "segments.webp")
    pages = [point(each.image, each.phrase, encoder, **options).draw() for each in shown if each.phrase]
    if pages:
        save_sheet(in_rows([pages]), asked.output / "points.webp")


if __name__ == "__main__":
    main()
