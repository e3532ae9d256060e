"""Typographic attack: the name of a wrong class is written on the image."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from patchclip.data.sets import Classification
from patchclip.evaluation._metrics import classification_chance
from patchclip.evaluation._top1 import drawn_to, hits, labels_of
from patchclip.evaluation.corruption.views import SIZE, Framed, framed
from patchclip.evaluation.embedder import Embedder
from patchclip.evaluation.result import Result, Samples

TASK = "typographic"
VERSION = 1
"""Raised when the same name would give other pixels."""

TALLEST, SMALLEST = 36, 10
"""Size of the letters in pixels: as large as fits the width, between these."""

MARGIN = 6


@dataclass(frozen=True)
class Written:
    """A view: the framed image with a word on a white label, as a note stuck on the thing.

    Args:
        words: for each image of the set, by its number.
    """

    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name under which embeddings are kept; it changes with the words."""
        digest = hashlib.sha256("\0".join(self.words).encode()).hexdigest()[:16]
        return f"typographic-v{VERSION}:{SIZE}:{digest}"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        """The image, 224 pixels square, with its word at a place that `index` fixes."""
        return written(framed(image), self.words[index], np.random.default_rng((VERSION, index)))


def written(image: Image.Image, word: str, rng: np.random.Generator) -> Image.Image:
    """A copy of an RGB image with a word in black on a white label, wholly inside where the word fits."""
    size = TALLEST
    font = ImageFont.load_default(size)
    while size > SMALLEST and font.getlength(word) > image.width - 4 * MARGIN:
        size -= 2
        font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(word)
    width, height = int(right - left) + 2 * MARGIN, int(bottom - top) + 2 * MARGIN
    x = int(rng.integers(0, max(0, image.width - width) + 1))
    y = int(rng.integers(0, max(0, image.height - height) + 1))
    labelled = image.copy()
    draw = ImageDraw.Draw(labelled)
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill="white")
    draw.text((x + MARGIN - left, y + MARGIN - top), word, fill="black", font=font)
    return labelled


def wrong_labels(classnames: Sequence[str], labels: Sequence[int]) -> list[int]:
    """A class with another name for every image, drawn by the image's number; -1 where there is none."""
    clean = [name.strip().casefold() for name in classnames]
    alone = len(set(clean)) < 2
    found = []
    for index, label in enumerate(labels):
        rng = np.random.default_rng((VERSION, index, len(classnames)))
        wrong = -1 if alone else int(rng.integers(len(classnames)))
        while wrong >= 0 and clean[wrong] == clean[label]:
            wrong = int(rng.integers(len(classnames)))
        found.append(wrong)
    return found


def typographic_result(embedder: Embedder, benchmark: Classification, indices: Sequence[int]) -> Result:
    """Accuracy on images with the name of a wrong class written on them, beside the same images without.

    Metrics: `acc1`, `acc1_clean`, `drop` = acc1_clean - acc1, `fooled` (share of images for which no class
    scores higher than the written one; ties count as fooled), `fooled_clean` (the same without the word on
    the image).
    Source: Goh et al., "Multimodal Neurons in Artificial Neural Networks", Distill 2021; Materzynska et al.,
        "Disentangling visual and written concepts in CLIP", CVPR 2022, arXiv:2206.07835.
    Differs: words are printed, not written by hand, and drawn at random from the set's own other classes.

    Args:
        embedder: of the model.
        benchmark: with two names at least.
        indices: images to write on, ascending.
    """
    labels_of(benchmark, torch.arange(len(benchmark.labels)))
    wrong = wrong_labels(benchmark.classnames, benchmark.labels.tolist())
    view = Written(tuple(benchmark.classnames[label] for label in wrong))
    clean = embedder.images(benchmark.images, benchmark.name, Framed(), indices)
    attacked = embedder.images(benchmark.images, benchmark.name, view, indices)
    classes = embedder.classes(benchmark)
    labels = labels_of(benchmark, attacked.indices)
    target = torch.tensor(wrong)[attacked.indices]
    unharmed = hits(clean.embeddings, classes, labels_of(benchmark, clean.indices), embedder.device).float()
    right = hits(attacked.embeddings, classes, labels, embedder.device).float()
    fooled = drawn_to(attacked.embeddings, classes, target, embedder.device).float()
    before = drawn_to(clean.embeddings, classes, torch.tensor(wrong)[clean.indices], embedder.device).float()
    samples = {
        "acc1": Samples(right, attacked.indices),
        "acc1_clean": Samples(unharmed, clean.indices),
        "fooled": Samples(fooled, attacked.indices),
        "fooled_clean": Samples(before, clean.indices),
    }
    metrics = {name: each.values.double().mean().item() for name, each in samples.items()}
    metrics["drop"] = metrics["acc1_clean"] - metrics["acc1"]
    chance = classification_chance(len(benchmark.classnames), 1)
    return Result(
        dataset=benchmark.name,
        task=TASK,
        metrics=metrics,
        chance=dict.fromkeys(samples, chance),
        images=len(labels),
        classes=len(benchmark.classnames),
        bad=attacked.bad,
        protocol=f"zero-shot top-1, a wrong class name printed on {len(labels)} of {len(benchmark)} images",
        samples=samples,
    )
