"""Runs an encoder over the images and texts of a data set in batches; unreadable images are noted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import BadSample, Encoder
from patchclip.errors import DataError

UNREADABLE = (OSError, SyntaxError, ValueError)
"""What reading a damaged image raises; Pillow has no error of its own for it."""


class ImageSet(Protocol):
    """What both kinds of benchmark have: a name, a length and (image, target) entries."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class EncodedImages:
    """Embeddings [b,e] of the readable images, their indices and targets, and what could not be read."""

    embeddings: Tensor
    indices: tuple[int, ...]
    targets: tuple[Any, ...]
    bad: tuple[BadSample, ...]


def encode_images(
    encoder: Encoder,
    benchmark: ImageSet,
    batch_size: int,
    on_images: Callable[[int, int], None] | None = None,
) -> EncodedImages:
    """Embeds every readable image of a benchmark once.

    Args:
        encoder: the model; it brings its own preprocessing.
        benchmark: entries are (PIL image, label or captions).
        batch_size: images a forward pass, at least 1.
        on_images: called with (images done, images in all) after every batch.

    Returns:
        Embeddings on the encoder's device, float32.

    Raises:
        DataError: the set has no readable image.
    """
    parts: list[Tensor] = []
    indices: list[int] = []
    targets: list[Any] = []
    bad: list[BadSample] = []
    total = len(benchmark)
    for chunk in _chunks(range(total), batch_size):
        pixels = []
        for index in chunk:
            try:
                image, target = benchmark[index]
            except UNREADABLE as error:
                bad.append(BadSample(f"{benchmark.name}/{index}", str(error) or type(error).__name__))
                continue
            pixels.append(encoder.preprocess(image))
            indices.append(index)
            targets.append(target)
        if pixels:
            with torch.inference_mode():
                parts.append(encoder.encode_image(torch.stack(pixels).to(encoder.device)).float())
        if on_images is not None:
            on_images(chunk[-1] + 1, total)
    if not parts:
        first = f"; the first failed with: {bad[0].reason}" if bad else ""
        raise DataError(
            f"{benchmark.name}: none of its {total} images can be read{first}; check the data set"
        )
    return EncodedImages(torch.cat(parts), tuple(indices), tuple(targets), tuple(bad))


def encode_texts(encoder: Encoder, texts: Sequence[str], batch_size: int) -> Float[Tensor, "n e"]:
    """Unit-length text embeddings in float32, `batch_size` texts a forward pass.

    Raises:
        DataError: `texts` is empty.
    """
    if not texts:
        raise DataError("0 texts to encode: a data set needs at least one caption or class name")
    parts = []
    for chunk in _chunks(texts, batch_size):
        with torch.inference_mode():
            parts.append(encoder.encode_text(encoder.tokenizer(list(chunk)).to(encoder.device)).float())
    return torch.cat(parts)


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
