"""A table instead of a model: an image is known by the red value of its first pixel, a text by its words."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from patchclip.contracts import Patches
from patchclip.data.sets import Benchmark, Classification, Retrieval
from patchclip.errors import DataError
from patchclip.evaluation._runner import Suite
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.result import Result


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (number, 0, 0))


class TableEncoder:
    """`images[i]` is the embedding of picture(i), `texts[words]` that of a text."""

    name = "ViT-Table:test"

    def __init__(self, images: Tensor, texts: dict[str, Tensor]) -> None:
        self.images, self.texts = images, texts
        self.vocabulary = list(texts)
        self.image_batches: list[int] = []
        self.text_batches: list[int] = []
        self.preprocess: Callable[[Image.Image], Tensor] = lambda image: torch.full(
            (3, 2, 2), float(image.getpixel((0, 0))[0])
        )
        self.tokenizer: Callable[[list[str]], Tensor] = lambda texts: torch.tensor(
            [[self.vocabulary.index(text)] for text in texts]
        )

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def encode_image(self, pixels: Tensor) -> Tensor:
        self.image_batches.append(len(pixels))
        return self.images[pixels[:, 0, 0, 0].long()]

    def encode_text(self, tokens: Tensor) -> Tensor:
        self.text_batches.append(len(tokens))
        return torch.stack([self.texts[self.vocabulary[i]] for i in tokens[:, 0].tolist()])

    def patch_features(self, pixels: Tensor) -> Patches:
        raise NotImplementedError


class FakeImages:
    """picture(i) for every i; numbers in `broken` cannot be read."""

    def __init__(self, count: int, broken: dict[int, str] | None = None) -> None:
        self.count, self.broken = count, broken or {}
        self.read: list[int] = []
        self.fingerprint = f"fake {count} {sorted(self.broken)}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image.Image:
        self.read.append(index)
        if index in self.broken:
            raise DataError(self.broken[index])
        return picture(index)


def labelled(
    labels: list[int],
    classnames: tuple[str, ...],
    templates: tuple[str, ...] = ("{c}",),
    broken: dict[int, str] | None = None,
) -> Classification:
    """Image i is picture(i) of class labels[i]."""
    return Classification(
        "fake", FakeImages(len(labels), broken), np.array(labels, np.int64), classnames, templates
    )


def captioned(captions: list[tuple[str, ...]], broken: dict[int, str] | None = None) -> Retrieval:
    """Image i is picture(i) with captions[i]."""
    return Retrieval("fake", FakeImages(len(captions), broken), captions)


def score(suite: Suite, encoder: TableEncoder, benchmark: Benchmark, batch_size: int = 128) -> Result:
    """The one result of a suite on one set."""
    (result,) = suite.results(Embedder(encoder, Encoding(batch_size=batch_size)), [benchmark])
    return result
