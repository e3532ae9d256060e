"""Random reduction: a random subset of a caption's words."""

import random
from dataclasses import dataclass
from typing import ClassVar

from patchclip.contracts import Words
from patchclip.reduction._fill import fill


@dataclass(frozen=True)
class RandomReducer:
    """Keeps a random subset in the caption's order, every word as likely as any other.

    keep = the words of lowest u until the room is full, u ~ U(0, 1)

    Source: Li et al., "An Inverse Scaling Law for CLIP Training", NeurIPS 2023, arXiv 2305.07017 (text
    tokens, "random masking").
    Differs: the released code draws tokens, so that words lose their middle; so does this with
    `whole_words=False`. With whole words a long word is kept a little less often than a short one, and the
    last place may hold the start of a word.

    Args:
        whole_words: draw words rather than tokens.
    """

    whole_words: bool = True
    reads_words: ClassVar[bool] = False

    def keep(self, words: Words, room: int, rng: random.Random) -> list[int]:
        if not self.whole_words:
            words = Words(tuple((token,) for word in words.tokens for token in word))
        chance = [rng.random() for _ in words.tokens]
        return fill(words, sorted(range(len(chance)), key=chance.__getitem__), room)
