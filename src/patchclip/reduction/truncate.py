"""Truncation: a caption's first tokens."""

import random
from dataclasses import dataclass
from typing import ClassVar

from patchclip.contracts import Words


@dataclass(frozen=True)
class TruncateReducer:
    """Keeps the first tokens, as every CLIP does with captions longer than its context.

    keep = 0, 1, ..., room - 1

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML
    2021, arXiv 2103.00020, section 2.4; Li et al., "An Inverse Scaling Law for CLIP Training", NeurIPS 2023,
    arXiv 2305.07017 (text tokens, "truncation").
    Differs: in nothing; the last word may be cut between two of its tokens.
    """

    reads_words: ClassVar[bool] = False

    def keep(self, words: Words, room: int, rng: random.Random) -> list[int]:
        return list(range(min(room, words.length)))
