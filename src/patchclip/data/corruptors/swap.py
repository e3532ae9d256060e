"""Two words of a caption exchanged."""

import itertools
import random
from dataclasses import dataclass

from patchclip.data.corruptors._words import changed, other, spans
from patchclip.data.grammar import lexicon

_FUNCTION = lexicon.FUNCTION | lexicon.DETERMINERS
_LISTED = frozenset(("", "and", "or", "&"))


@dataclass(frozen=True)
class SwapCorruptor:
    """Two words exchanged: content words where there are two, any words otherwise.

    Words that only "and", "or" or a comma separates are exchanged last: a list says the same in any order.

    Source: Yuksekgonul et al., "When and why vision-language models behave like bags-of-words", ICLR 2023,
        arXiv 2210.01936 (the negative captions of NegCLIP).
    Differs: NegCLIP exchanges words, or noun phrases, of the same part of speech, which spaCy tags; here
        content words are those that stand in no list of this project's grammar of English. Cho et al.
        (arXiv 2205.13115) call by this name that words are replaced by words of a vocabulary.
    """

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        """The text with two words exchanged; None for fewer than two different ones."""
        places = spans(text)
        words = [text[start:stop] for start, stop in places]
        content = [i for i, word in enumerate(words) if word.lower() not in _FUNCTION]
        for among in (content, range(len(places))):
            pairs = [
                (i, j)
                for i, j in itertools.combinations(among, 2)
                if words[i].casefold() != words[j].casefold()
            ]
            rng.shuffle(pairs)
            pairs.sort(key=lambda pair: _is_listed(text[places[pair[0]][1] : places[pair[1]][0]]))
            found = other(text, (_swapped(text, places[i], places[j]) for i, j in pairs))
            if found is not None:
                return found
        return None


def _swapped(text: str, first: tuple[int, int], second: tuple[int, int]) -> str:
    return changed(text, [(*first, text[slice(*second)]), (*second, text[slice(*first)])])


def _is_listed(between: str) -> bool:
    """Whether two words with this between them are parts of a list; not where nothing but a space is."""
    return between.strip(" ,").lower() in _LISTED and not between.isspace()
