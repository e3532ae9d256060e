"""The captions of every image of a set, packed."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Int64

from patchclip.data._strings import Packer, Strings


class Captions(Sequence[tuple[str, ...]]):
    """An immutable list of tuples of strings held in three arrays.

    Args:
        texts: All captions one after another.
        ends: Captions of image i are `texts[ends[i-1]:ends[i]]`.
    """

    def __init__(self, texts: Strings, ends: Int64[np.ndarray, "b"]) -> None:
        self._texts, self._ends = texts, ends

    @classmethod
    def of(cls, captions: Iterable[Sequence[str]]) -> "Captions":
        """Packs the captions of images; `captions` is read once."""
        packer, counts = Packer(), []
        for texts in captions:
            counts.append(len(texts))
            for text in texts:
                packer.append(text)
        return cls(packer.packed(), np.fromiter(accumulate(counts), np.int64, len(counts)))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> tuple[str, ...]:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} must be in [0, {len(self)})")
        index %= len(self)
        start = int(self._ends[index - 1]) if index else 0
        return tuple(self._texts[i] for i in range(start, int(self._ends[index])))
