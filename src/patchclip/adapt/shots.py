"""Labelled images of any kind, read and preprocessed when an adapter asks for them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from patchclip.errors import DataError

HELD = 1 << 28
"""Bytes of preprocessed images that are kept, so that a second pass over few shots reads nothing."""


class ImageShots:
    """The `Shots` that a `TowerAdapter` learns from.

    Args:
        images: anything that gives an RGB image by its number: a list, or the images of a set.
        labels: class of each.
        preprocess: an image as the model takes it, [3, h, w].
        numbers: which of the images are the shots; None for all of them.

    Raises:
        DataError: as many labels as there are shots is the rule.
    """

    def __init__(
        self,
        images: Any,
        labels: Int64[Tensor, " n"],
        preprocess: Callable[[Image.Image], Tensor],
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._images, self._labels, self._preprocess = images, labels, preprocess
        self._numbers = list(range(len(images)) if numbers is None else numbers)
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0
        if len(self._numbers) != len(labels):
            raise DataError(f"{len(self._numbers)} images and {len(labels)} labels: each needs one")

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """Class of each shot."""
        return self._labels

    def pixels(self, rows: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
        """Preprocessed images of these rows.

        Raises:
            DataError: naming file and cause, for an image that cannot be read.
        """
        return torch.stack([self._one(row) for row in rows])

    def _one(self, row: int) -> Tensor:
        if row in self._kept:
            return self._kept[row]
        found = self._preprocess(self._images[self._numbers[row]])
        if self._bytes + found.nbytes <= HELD:
            self._kept[row], self._bytes = found, self._bytes + found.nbytes
        return found
