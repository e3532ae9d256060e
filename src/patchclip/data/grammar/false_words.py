"""Which words are false of an image, as far as its captions and a small list of synonyms tell."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from patchclip.data.grammar import lexicon, nouns
from patchclip.data.grammar.phrases import kinds, stem
from patchclip.data.grammar.words import lower_words

_ANIMALS = frozenset(map(stem, nouns.ANIMALS))
_PEOPLE = frozenset(map(stem, nouns.PEOPLE))
_ROLES = frozenset(map(stem, nouns.ROLES))


def _stems() -> dict[str, frozenset[str]]:
    """Stem -> the stems of all words that may name the same thing."""
    related: dict[str, set[str]] = {}
    pairs = [(group, group) for group in nouns.SYNONYMS]
    for general, special in nouns.NAMED:
        pairs += [(general, general | special), (special, general)]
    pairs += [(nouns.ANYBODY, nouns.ROLES), (nouns.ROLES, nouns.ANYBODY)]
    for words, others in pairs:
        for word in words:
            related.setdefault(stem(word), set()).update(map(stem, others))
    return {word: frozenset(found) for word, found in related.items()}


_RELATED = _stems()


@lru_cache(maxsize=65536)
def nature(noun: str) -> str:
    """Whether a lower-case noun is a "person" or an "animal" of the lists; "" otherwise."""
    found = stem(noun.split()[-1])
    return "person" if found in _PEOPLE else "animal" if found in _ANIMALS else ""


@dataclass(frozen=True)
class Said:
    """What the captions of an image say.

    Attributes:
        texts: the captions, lower case, words separated by one space and by blanks at both ends.
        words: all of their words, lower case.
        nouns: stems that may name something they mention.
        parts: of these, those that no other noun may be made of: not what people may be by what they do.
    """

    texts: tuple[str, ...]
    words: frozenset[str]
    nouns: frozenset[str]
    parts: frozenset[str]

    @classmethod
    def by(cls, captions: Iterable[str]) -> "Said":
        """Reads the captions of an image."""
        return _said(tuple(captions))

    def mentions(self, phrase: str) -> bool:
        """Whether one of the captions holds these lower-case words in a row."""
        return any(f" {phrase} " in text for text in self.texts)

    def allows_noun(self, noun: str) -> bool:
        """Whether nothing that the captions mention may be called so."""
        stems = [stem(word) for word in noun.lower().split()]
        if any(each in self.nouns for each in stems):
            return False
        return not any(_contains(stems[-1], other) or _contains(other, stems[-1]) for other in self.parts)

    def allows_attribute(self, word: str) -> bool:
        """Whether neither it nor a word of nearly the same meaning stands in the captions."""
        groups = (group for kind in kinds(word) for group in lexicon.ATTRIBUTES[kind] if word in group)
        return not any(self.words & group for group in groups)


@lru_cache(maxsize=64)
def _said(captions: tuple[str, ...]) -> Said:
    texts = tuple(f" {' '.join(lower_words(text))} " for text in captions)
    words = frozenset(word for text in texts for word in text.split())
    stems = {stem(word) for word in words}
    related = frozenset(stems.union(*(_RELATED.get(each, ()) for each in stems)))
    return Said(texts, words, related, related - _ROLES | stems)


def _contains(word: str, part: str) -> bool:
    """Whether a word is made of another one: "sheepdog", "doghouse"; of people the lists tell ("woman")."""
    if word in _PEOPLE and part in _PEOPLE:
        return False
    return len(part) > 2 and (word.endswith(part) or (len(part) > 3 and part in word))


@lru_cache(maxsize=4096)
def differ(first: str, second: str) -> bool:
    """Whether two nouns name things that cannot be taken for each other."""
    return Said.by([first]).allows_noun(second)
