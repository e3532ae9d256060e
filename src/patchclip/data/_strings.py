"""Millions of strings in two arrays instead of millions of Python objects."""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class Strings(Sequence[str]):
    """An immutable list of strings held as one UTF-8 buffer and the end of each string in it.

    Worker processes share it after a fork, because reading it touches no reference counts of its items.

    Args:
        blob: uint8 [bytes], all strings one after another.
        ends: int64 [n], string i is `blob[ends[i-1]:ends[i]]`.
    """

    def __init__(self, blob: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        if len(ends) and int(ends[-1]) != len(blob):
            raise ValueError(f"the last end must be the length of the buffer, got {ends[-1]} for {len(blob)}")
        self.blob = blob
        self.ends = ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Strings":
        """Packs strings; `texts` is read once, so it may be a generator."""
        packer = Packer()
        for text in texts:
            packer.append(text)
        return packer.packed()

    @classmethod
    def concat(cls, parts: Sequence["Strings"]) -> "Strings":
        """Joins packed lists in order."""
        if not parts:
            return cls.of(())
        starts = np.cumsum([0] + [len(part.blob) for part in parts[:-1]])
        ends = [part.ends + start for part, start in zip(parts, starts, strict=True)]
        return cls(np.concatenate([part.blob for part in parts]), np.concatenate(ends).astype(np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> str:  # type: ignore[override]
        if not -len(self) <= i < len(self):
            raise IndexError(f"index {i} must be in [0, {len(self)})")
        i %= len(self)
        start = int(self.ends[i - 1]) if i else 0
        return self.blob[start : int(self.ends[i])].tobytes().decode("utf-8")


class Packer:
    """Collects strings one by one and packs them."""

    def __init__(self) -> None:
        self._blob = bytearray()
        self._ends = array("q")

    def append(self, text: str) -> None:
        """Adds one string; characters UTF-8 cannot carry become "?"."""
        self._blob += text.encode("utf-8", "replace")
        self._ends.append(len(self._blob))

    def packed(self) -> Strings:
        """The strings so far."""
        return Strings(np.frombuffer(bytes(self._blob), np.uint8), np.array(self._ends, np.int64))
