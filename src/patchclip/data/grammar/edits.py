"""Changes to a caption that keep it a sentence: capital letters, a and an."""

import re
from collections.abc import Iterable

_PAIR = re.compile(r"\b(an?)(\s+)([^\W_][\w'’-]*)", re.IGNORECASE)
_CONSONANT = re.compile(r"(?:uni(?!n|m)|u[bkst][aeiu]|eu|ewe|one\b|once|ut[aeio]|ufo)", re.IGNORECASE)
_VOWEL = re.compile(r"(?:[aeiou]|hour|honest|honou?r|heir|x-|8|11\b|18\b)", re.IGNORECASE)

Edit = tuple[int, int, str]
"""First character, character behind the last, and what stands there instead."""


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Applies edits that do not overlap; repairs the articles before changed words and the first capital.

    Args:
        text: a caption.
        edits: in any order.
    """
    found = text
    for start, stop, new in sorted(edits, reverse=True):
        found = found[:start] + new + found[stop:]
    known = {pair.group().lower() for pair in _PAIR.finditer(text)}
    found = _PAIR.sub(lambda pair: _agreed(pair, known), found)
    return found[:1].upper() + found[1:] if text[:1].isupper() else found


def swapped(text: str, first: tuple[int, int], second: tuple[int, int]) -> str:
    """A caption with two spans exchanged; what leaves the beginning loses its capital letter."""
    moved = text[slice(*first)]
    if first[0] == 0:
        moved = moved[:1].lower() + moved[1:]
    return edited(text, [(*first, text[slice(*second)]), (*second, moved)])


def article(word: str) -> str:
    """The indefinite article before a word, by its sound."""
    return "an" if _VOWEL.match(word) and not _CONSONANT.match(word) else "a"


def _agreed(pair: re.Match[str], known: set[str]) -> str:
    if pair.group().lower() in known:
        return pair.group()
    found = article(pair[3])
    return (found.capitalize() if pair[1][0].isupper() else found) + pair[2] + pair[3]
