"""The images that data/features.py has encoded: read, prepared and put together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from patchclip.contracts import BadSample
from patchclip.data.pairs import PairSource

Transform = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Read:
    """Some images that follow each other: pixels of those that can be read, and why the others cannot."""

    pixels: Tensor
    keys: tuple[str, ...]
    bad: dict[int, str]


Item = tuple[Tensor | str, str]  # a prepared image, or why there is none, and its key


class Images(Dataset[Item]):
    """The images of a source, prepared."""

    def __init__(self, source: PairSource, transform: Transform) -> None:
        self._source, self._transform = source, transform

    def __getitem__(self, index: int) -> Item:
        pair = self._source.read(index)
        if isinstance(pair, BadSample):
            return pair.reason, pair.key
        return self._transform(pair.image), pair.key


def collate(items: Sequence[Item]) -> Read:
    pixels = [found for found, _ in items if isinstance(found, Tensor)]
    bad = {row: found for row, (found, _) in enumerate(items) if isinstance(found, str)}
    stacked = torch.stack(pixels) if pixels else torch.empty(0)
    return Read(stacked, tuple(key for _, key in items), bad)
