"""A run of words left out of a caption."""

import random
import re
from dataclasses import dataclass
from typing import ClassVar

from patchclip.data.corruptors._words import beginning, changed, check_longest, joined, other, pieces, spans


@dataclass(frozen=True)
class RemoveCorruptor:
    """A run of 1 to `longest` words left out; never all of them.

    Source: Cho et al., "Fine-grained Image Captioning with CLIP Reward", Findings of NAACL 2022,
        arXiv 2205.13115 (`remove`).
    Differs: their code leaves nothing of a text as short as the run, and fails on a shorter one.

    Args:
        longest: words of the longest run, at least 1.

    Raises:
        ConfigError: `longest` is below 1.
    """

    longest: int = 3
    false: ClassVar[bool] = False
    """What is left of a true caption is true: no negative of its image."""

    def __post_init__(self) -> None:
        check_longest(self.longest)

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        """The text without the run; None for fewer than two words."""
        text, rest = beginning(text)
        places = spans(text)
        if len(places) < 2:
            return None
        first, stop = pieces(len(places), min(self.longest, len(places) - 1), rng)
        left = _closed(changed(text, [(places[first][0], places[stop - 1][1], "")]))
        return joined(other(text, [left[:1].upper() + left[1:] if text[:1].isupper() else left]), rest)


def _closed(text: str) -> str:
    """A text without empty brackets, spaces or commas before other marks, and marks at its beginning."""
    filled = re.sub(r"[(\[]\s*[)\]]", "", text)
    joined = re.sub(r"\s+(?=[,.;:!?])", "", filled)
    return " ".join(re.sub(r"[,;:]+(?=[,.;:!?])", "", joined).lstrip(",.;:!? ").split())
