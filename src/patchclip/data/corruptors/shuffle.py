"""The words of a caption in another order."""

import random
from dataclasses import dataclass

from patchclip.data.corruptors._words import TRIES, beginning, changed, joined, other, spans


@dataclass(frozen=True)
class ShuffleCorruptor:
    """All words in a random other order; punctuation keeps its place.

    Source: Yuksekgonul et al., "When and why vision-language models behave like bags-of-words", ICLR 2023,
        arXiv 2210.01936; Cho et al., "Fine-grained Image Captioning with CLIP Reward", Findings of NAACL
        2022, arXiv 2205.13115 (`shuffle`).
    Differs: never the same order, which Cho's code may draw; the first letter stays a capital if it was one.
    """

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        """The words in another order; None for fewer than two different ones."""
        text, rest = beginning(text)
        places = spans(text)
        words = [text[start:stop] for start, stop in places]
        if len({word.casefold() for word in words}) < 2:
            return None

        def ordered(order: list[str]) -> str:
            return changed(text, [(*place, word) for place, word in zip(places, order, strict=True)], False)

        drawn = (ordered(rng.sample(words, len(words))) for _ in range(TRIES))
        turned = (ordered(words[i:] + words[:i]) for i in range(min(len(words), TRIES)))
        return joined(other(text, drawn) or other(text, turned), rest)
