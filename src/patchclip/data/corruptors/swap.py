"""Two words of a caption exchanged."""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from patchclip.data.corruptors._words import TRIES, Span, beginning, changed, joined, other, spans
from patchclip.data.grammar import lexicon
from patchclip.data.grammar.phrases import parse
from patchclip.data.grammar.words import is_latin

_FUNCTION = lexicon.FUNCTION | lexicon.DETERMINERS
_MOST_NOUNS = 3
"""Words of a noun; where more stand in a row, they are words that the grammar does not know."""
_AND = frozenset(("and", "or", "&"))


@dataclass(frozen=True)
class SwapCorruptor:
    """Two content words exchanged that belong to different things; any two words where there is but one.

    Words of one list ("salt, pepper and wine"), or of one noun phrase that the grammar reads ("a soft round
    ball"), are left alone: they say the same in any order.

    Source: Yuksekgonul et al., "When and why vision-language models behave like bags-of-words", ICLR 2023,
        arXiv 2210.01936 (the negative captions of NegCLIP).
    Differs: NegCLIP exchanges words, or noun phrases, of the same part of speech, which spaCy tags; here
        content words are those that stand in no list of this project's grammar of English. Cho et al.
        (arXiv 2205.13115) call by this name that words are replaced by words of a vocabulary.
    """

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        """The text with two words exchanged; None where no two can be."""
        head, rest = beginning(text)
        places = spans(head)
        if len(places) < 2:
            return None
        words = [head[start:stop].casefold() for start, stop in places]
        among = [i for i, word in enumerate(words) if word not in _FUNCTION]
        alike = _alike(head, places, among)
        if len({words[i] for i in among}) < 2:
            among, alike = list(range(len(places))), []

        def usable(i: int, j: int) -> bool:
            return words[i] != words[j] and not any(i in each and j in each for each in alike)

        pairs = (pair for pair in _drawn(among, rng) if usable(*pair))
        found = (_swapped(head, places[i], places[j]) for i, j in itertools.islice(pairs, TRIES))
        return joined(other(head, found), rest)


def _drawn(among: Sequence[int], rng: random.Random) -> Iterator[tuple[int, int]]:
    """Pairs in a drawn order: some at random, then all of them, from a word that is drawn on."""
    if len(among) < 2:
        return
    for _ in range(TRIES):
        i, j = sorted(rng.sample(among, 2))
        yield i, j
    start = rng.randrange(len(among))
    yield from itertools.combinations([*among[start:], *among[:start]], 2)


def _swapped(text: str, first: Span, second: Span) -> str:
    return changed(text, [(*first, text[slice(*second)]), (*second, text[slice(*first)])])


def _alike(text: str, places: Sequence[Span], content: Sequence[int]) -> list[range]:
    """Runs of words that say the same in any order: those of a list, those of a noun phrase."""
    found = []
    start = 0
    for k in range(1, len(content) + 1):
        ends = k == len(content)
        if ends or not _is_listed(text[places[content[k - 1]][1] : places[content[k]][0]]):
            found.append(range(content[start], content[k - 1] + 1))
            start = k
    for phrase in parse(text).phrases:
        inside = [i for i in content if phrase.start <= places[i][0] < phrase.stop]
        read = len(phrase.head) <= _MOST_NOUNS and all(is_latin(word.text) for word in phrase.head)
        if read and len(inside) > 1:
            found.append(range(inside[0], inside[-1] + 1))
    return [run for run in found if len(run) > 1]


def _is_listed(between: str) -> bool:
    """Whether two words with this between them are neighbours in a list; not where nothing but a space is."""
    words = re.findall(r"[\w'’]+|&", between.lower())
    only = all(word in _AND or word in lexicon.DETERMINERS for word in words)
    return only and ("," in between or ";" in between or any(word in _AND for word in words))
