"""Syntax reduction: nouns before adjectives before verbs before the rest."""

import random
import warnings
from dataclasses import dataclass
from typing import ClassVar

from textblob.en.taggers import PatternTagger

from patchclip.contracts import Words
from patchclip.errors import ConfigError
from patchclip.reduction._fill import fill

_RANKS = {"NN": 0, "JJ": 1, "VB": 2}
"""Rank by the first two letters of a Penn tag; all other parts of speech come last."""

_TAGGER = PatternTagger()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)  # the first use reads the lexicon and leaves it open
    _TAGGER.tag("lexicon", tokenize=False)


@dataclass(frozen=True)
class SyntaxReducer:
    """Keeps nouns first, then adjectives, then verbs, then the other words, in the caption's order.

    keep = the words of lowest (rank of the part of speech, place) until the room is full

    Source: Li et al., "An Inverse Scaling Law for CLIP Training", NeurIPS 2023, arXiv 2305.07017 (text
    tokens, "syntax masking").
    Differs: counts tokens. The released code chooses as many words as there is room for tokens and cuts what
    is too long afterwards, so that nouns at the end are lost; words of one rank it sorts by an unstable sort.
    Tags come from the pattern lexicon inside TextBlob, where the released code downloads NLTK's tagger.
    """

    reads_words: ClassVar[bool] = True

    def keep(self, words: Words, room: int, rng: random.Random) -> list[int]:
        ranks = _ranks(words.texts)
        return fill(words, sorted(range(len(ranks)), key=ranks.__getitem__), room)


def _ranks(texts: tuple[str, ...]) -> list[int]:
    """The rank of each word."""
    # The tagger parts words at spaces, and reads punctuation where a word says nothing.
    line = " ".join("".join(text.split()) or "." for text in texts)
    tags = [tag for _, tag in _TAGGER.tag(line, tokenize=False)] if texts else []
    if len(tags) != len(texts):
        raise ConfigError(f"text.name=syntax: {len(texts)} words have {len(tags)} tags: {line!r}")
    return [_RANKS.get(tag[:2], len(_RANKS)) for tag in tags]
