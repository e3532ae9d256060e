"""Draws the pictures of docs/segment.md: regions with their legend, and where phrases are.

    python -m tools.draw_segments --model RUN --things 99 --scenes 15 11 --prompts plain --background none
    python -m tools.draw_segments --model RUN --scenes 0 7 40
    python -m tools.draw_segments --model ViT-B-16:openai photo.jpg --labels "cat, grass" --phrases "the cat"

Without images the shipped test scenes are drawn; labels are then the nouns of all scenes shown, so that each
scene is asked for things it does not hold. With --things SEED they are composed scenes of that seed, each
asked for its own nouns; the other nouns of the source are words of the background. Writes
docs/images/segments.webp, one overlay a picture, and docs/images/points.webp, one phrase a picture. With
--exact a second row shows the exact masks of the scenes.
"""

import argparse
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import patchclip
from patchclip._cli_dense import read_labels
from patchclip.data.benchmarks import benchmark_root
from patchclip.data.compose.source import SceneSource, familiar
from patchclip.data.compose.words import Thing
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


def composed(seed: int, number: int) -> Shown:
    """A composed scene of training pictures, named as in its caption; the phrase is its first thing."""
    source = SceneSource(number + 1, seed, familiar(), painted=False, told="nouns")
    found = source.scene(number)
    names = tuple(str(Thing(item["noun"])) for item in found.objects)
    return Shown(found.image, names[0], names, found.instances)


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
    parser.add_argument("--scenes", nargs="*", type=int, default=[0, 7, 40], help="numbers of the scenes")
    parser.add_argument("--things", type=int, metavar="SEED", help="composed scenes of training pictures")
    parser.add_argument("--prompts", default="pacl7", help="as for patchclip segment")
    parser.add_argument("--exact", action="store_true", help="add a row with the exact masks")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder of the two pictures")
    return parser.parse_args()


def gathered(asked: argparse.Namespace) -> list[Shown]:
    """What is drawn: photographs, composed scenes or shipped ones."""
    if asked.things is not None:
        return [composed(asked.things, number) for number in asked.scenes]
    if not asked.images:
        return [scene(number) for number in asked.scenes]
    phrases = asked.phrases or [""] * len(asked.images)
    return [Shown(read_picture(path), phrase) for path, phrase in zip(asked.images, phrases, strict=True)]


def labels_of(asked: argparse.Namespace, shown: Sequence[Shown]) -> list[list[tuple[str, ...]]]:
    """The labels that each picture is asked for."""
    if asked.labels:
        return [read_labels(asked.labels)] * len(shown)
    if asked.things is not None:
        return [[(name,) for name in sorted(each.nouns)] for each in shown]
    nouns = dict.fromkeys(noun for each in shown for noun in each.nouns)
    return [[(noun,) for noun in nouns]] * len(shown)


def others(asked: argparse.Namespace, shown: Shown) -> dict[str, Any]:
    """The words of the background of a composed scene: all nouns that are not in it."""
    if asked.things is None:
        return {}
    words = (str(Thing(noun)) for noun in familiar())
    return {"background_words": tuple(word for word in words if word not in shown.nouns)}


def main() -> None:
    """Draws both pictures."""
    asked = arguments()
    shown = gathered(asked)
    labels = labels_of(asked, shown)
    encoder = patchclip.load(asked.model)
    options = {
        **{"method": asked.method, "refine": asked.refine, "step": asked.step},
        **{"background": asked.background, "prompts": asked.prompts},
    }
    rows = [
        [
            patchclip.segment(each.image, names, encoder, **options, **others(asked, each)).overlay()
            for each, names in zip(shown, labels, strict=True)
        ]
    ]
    if asked.exact:
        rows.append(
            [exact(each, [first for first, *_ in names]) for each, names in zip(shown, labels, strict=True)]
        )
    asked.output.mkdir(parents=True, exist_ok=True)
    save_sheet(in_rows(rows), asked.output / "segments.webp")
    pages = [point(each.image, each.phrase, encoder, **options).draw() for each in shown if each.phrase]
    if pages:
        save_sheet(in_rows([pages]), asked.output / "points.webp")


if __name__ == "__main__":
    main()
