"""A model as the classifier of a set's pixels, and of its images."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from patchclip.contracts import BadSample
from patchclip.data.sets import Segmented
from patchclip.dense.inference import Inference
from patchclip.dense.labels import vocabulary
from patchclip.dense.segmenter import Segmenter
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation._patches import with_tower
from patchclip.evaluation.embedder import Embedder

BLOCK = 4096
"""Images whose scores with all names are held at once."""


class PixelClasses:
    """Gives pixels and images the classes of a set by a `Segmenter`, whose label 0 is the background.

    Args:
        embedder: brings the model, and keeps embeddings of texts and images.
        benchmark: whose classes are asked for.
        inference: settings of the segmenter.

    Raises:
        DataError: class names that cannot be asked for, for instance one that two classes have.
        TowerError: patches of the model cannot be read.
    """

    def __init__(self, embedder: Embedder, benchmark: Segmented, inference: Inference) -> None:
        embedder = embedder.unit()  # patches are compared by cosines
        self.benchmark, self._embedder = benchmark, embedder
        encoder = with_tower(embedder.encoder, "segmentation")
        labels, self._classes = asked(benchmark)
        try:
            words = vocabulary(_Texts(embedder), labels, inference.prompts, inference.words)
        except ConfigError as error:
            raise DataError(f"{benchmark.name}: its class names cannot be asked for: {error}") from error
        self._segmenter = Segmenter(encoder, words, inference)

    @property
    def method(self) -> str:
        """The dense method with its options, "auto" resolved."""
        return self._segmenter.method_name

    @property
    def words(self) -> str:
        """How pixels get their classes, in words."""
        sizes, inference = self._segmenter.sizes, self._segmenter.inference
        parts = [f"patches by {self.method}", f"short side {sizes.short_side} px"]
        parts.append(f"windows of {sizes.window} px every {sizes.stride}" if sizes.window else "one window")
        parts.append(f"patches every {sizes.step} px" if sizes.step < sizes.patch else "")
        prompts = len(self._segmenter.vocabulary.prompts)
        parts.append(f"{prompts} prompt{'s' if prompts > 1 else ''} a name")
        if inference.threshold is not None:
            parts.append(f"background below a probability of {inference.threshold:g}")
        if inference.entropy is not None:
            parts.append(f"background above an entropy of {inference.entropy:g}")
        if not bool(self._segmenter.vocabulary.owner.all()):
            parts.append(f"{int((self._segmenter.vocabulary.owner == 0).sum())} words for the background")
        parts.append(f"refined by {inference.refine}" if inference.refine else "")
        return ", ".join(part for part in parts if part)

    def label(self, images: Sequence[Image.Image]) -> Iterator[Int64[np.ndarray, "h w"]]:
        """The class of every pixel of each image, in the image's own size; -1 for none."""
        for found in self._segmenter.each(images):
            yield self._classes[found.label_map]

    def guesses(self, wanted: Sequence[int]) -> tuple[dict[int, int], tuple[BadSample, ...]]:
        """The one class whose name lies nearest to each image's embedding, and unreadable images.

        Args:
            wanted: numbers of the images, ascending.
        """
        images = self._embedder.images(self.benchmark.images, self.benchmark.name, only=wanted)
        texts, owner = self._segmenter.vocabulary.texts.cpu(), self._segmenter.vocabulary.owner.cpu()
        best = torch.cat([nearest(rows, texts) for rows in images.embeddings.split(BLOCK)])
        classes = self._classes[owner[best].numpy()].tolist()
        return dict(zip(images.indices.tolist(), classes, strict=True)), images.bad


def nearest(images: Float[Tensor, "b e"], texts: Float[Tensor, "m e"]) -> Int64[Tensor, "b"]:
    """The text with the highest cosine for each image."""
    return (images @ texts.T).argmax(1)


def asked(benchmark: Segmented) -> tuple[list[tuple[str, ...]], Int64[np.ndarray, "n1"]]:
    """The names of every class but the background, and the class of every label of a `Segmenter`.

    Returns:
        labels: n, the names of each.
        classes: n + 1; that of label 0 is the background, or -1 where the set has none.
    """
    kept = [label for label in range(len(benchmark.classnames)) if label != benchmark.background]
    background = -1 if benchmark.background is None else benchmark.background
    return [benchmark.synonyms[label] for label in kept], np.array([background, *kept], np.int64)


class _Texts:
    """An embedder as what `vocabulary` takes for an encoder: its texts are encoded once and kept."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.device = embedder.device

    def tokenizer(self, texts: list[str]) -> list[str]:
        return texts

    def encode_text(self, texts: Any) -> Float[Tensor, "n e"]:
        return self._embedder.texts(texts).to(self.device)
