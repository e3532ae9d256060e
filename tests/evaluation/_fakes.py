"""A table instead of a model: an image is known by the red value of its first pixel, a text by its words."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from patchclip.contracts import Patches


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


class FakeSet:
    """Entries are (picture(i), target); an OSError stands for an image that cannot be read."""

    def __init__(
        self, entries: list[object], classnames: tuple[str, ...] = (), templates: tuple[str, ...] = ("{c}",)
    ) -> None:
        self.name, self.entries = "fake", entries
        self.classnames, self.templates = classnames, templates

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> tuple[Image.Image, object]:
        if isinstance(self.entries[index], Exception):
            raise self.entries[index]
        return picture(index), self.entries[index]
