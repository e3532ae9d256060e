"""Block reduction: a contiguous part of a caption."""

import random
from dataclasses import dataclass
from typing import ClassVar

from patchclip.contracts import Words


@dataclass(frozen=True)
class BlockReducer:
    """Keeps a window of neighbouring tokens at a random place.

    keep = s, s + 1, ..., s + room - 1 with s uniform on 0 ... n - room

    Source: Li et al., "An Inverse Scaling Law for CLIP Training", NeurIPS 2023, arXiv 2305.07017 (text
    tokens, "block masking").
    Differs: in nothing; like the released code it counts tokens, so the window may cut the words at its ends.
    """

    reads_words: ClassVar[bool] = False

    def keep(self, words: Words, room: int, rng: random.Random) -> list[int]:
        free = max(0, words.length - room)
        start = int(rng.random() * (free + 1))
        return list(range(start, start + min(room, words.length)))
