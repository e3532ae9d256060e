"""Foreign words put into a caption."""

import random
from dataclasses import dataclass
from functools import lru_cache

from patchclip.data.corruptors._words import TRIES, beginning, changed, joined, other, plain, spans
from patchclip.data.grammar import lexicon, nouns
from patchclip.errors import ConfigError


@dataclass(frozen=True)
class InsertCorruptor:
    """1 to `most` words of a vocabulary put in, each before a word or at the end.

    Source: Cho et al., "Fine-grained Image Captioning with CLIP Reward", Findings of NAACL 2022,
        arXiv 2205.13115 (`insert`).
    Differs: their words are those of the training captions and never come last; here they are nouns and
        attributes of this project's grammar of English that the text does not hold, or `words`.

    Args:
        most: words put in at most, at least 1.
        words: the vocabulary; () is the grammar's.

    Raises:
        ConfigError: `most` is below 1, or a word is empty.
    """

    most: int = 3
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"most={self.most} must be at least 1: the words that are put in")
        if any(not spans(word) for word in self.words):
            raise ConfigError(f"words={self.words!r} must each hold a letter: what is put in")

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        """The text with foreign words; None for one without words, or that holds the whole vocabulary."""
        text, rest = beginning(text)
        places = spans(text)
        said = {plain(text[start:stop]) for start, stop in places}
        known = self.words or vocabulary()
        foreign = (rng.choice(known) for _ in range(TRIES * self.most))
        usable = [word for word in foreign if plain(word) not in said]
        if not places or not usable:
            return None
        ends = [*(start for start, _ in places), len(text)]
        edits: dict[int, str] = {}
        for word in usable[: rng.randint(1, self.most)]:
            place = rng.choice(ends)
            edits[place] = edits.get(place, "") + (f" {word}" if place == len(text) else f"{word} ")
        made = changed(text, [(place, place, new) for place, new in edits.items()])
        return joined(other(text, [made]), rest)


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Nouns and attributes of the grammar, sorted."""
    things = frozenset().union(*nouns.SYNONYMS, *(special for _, special in nouns.NAMED))
    return tuple(sorted(things | nouns.ANIMALS | nouns.PEOPLE | lexicon.PLAIN))
