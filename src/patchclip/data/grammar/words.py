"""The words of a caption, and the script that they are written in."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_FIRST_MARK = "\u0300"
"""No combining mark stands before it in Unicode."""


@dataclass(frozen=True)
class Word:
    """A word and where it stands in its caption."""

    text: str
    start: int
    stop: int

    @property
    def lower(self) -> str:
        return self.text.lower()


def words_of(text: str) -> tuple[Word, ...]:
    """The words of a caption; letters keep the marks behind them, as vowels are written in Thai and Hindi."""
    found: list[Word] = []
    for each in _WORD.finditer(text):
        start, stop = each.span()
        while stop < len(text) and text[stop] >= _FIRST_MARK and unicodedata.category(text[stop])[0] == "M":
            stop += 1
        if found and found[-1].stop == start:
            start = found.pop().start
        found.append(Word(text[start:stop], start, stop))
    return tuple(found)


@lru_cache(maxsize=1024)
def lower_words(text: str) -> tuple[str, ...]:
    """The words of a caption in lower case."""
    if text.isascii():
        return tuple(_WORD.findall(text.lower()))
    return tuple(word.lower for word in words_of(text))


def is_latin(word: str) -> bool:
    """Whether a word holds letters alone, and Latin ones: of other scripts the grammar reads nothing."""
    if word.isascii():
        return word.isalpha()
    return all(each.isalpha() and unicodedata.name(each, "").startswith("LATIN") for each in word)
