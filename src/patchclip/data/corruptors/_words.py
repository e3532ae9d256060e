"""The words of a text in any script, and what makes a text another one."""

import random
import re
import unicodedata
from collections.abc import Iterable, Sequence

from patchclip.data.grammar.edits import Edit, edited
from patchclip.errors import ConfigError

Span = tuple[int, int]
"""First character of a word, and the one behind its last."""

TRIES = 20
"""Draws after which a corruptor takes the first change that there is, or none."""

LONGEST = 1_000
"""Characters of a text that are changed: a text tower reads no more, and the work stays bounded."""


def beginning(text: str) -> tuple[str, str]:
    """The whole words in the first `LONGEST` characters, at least one, and the rest of the text."""
    if len(text) <= LONGEST:
        return text, ""
    whole = text[:LONGEST].rsplit(None, 1)
    first = re.search(r"\S+", text)
    cut = len(whole[0]) if len(whole) == 2 else first.end() if first else len(text)
    return text[:cut], text[cut:]


def joined(found: str | None, rest: str) -> str | None:
    """A changed beginning with the rest behind it; None where there is no change."""
    return None if found is None else " ".join([found, *rest.split()])


def spans(text: str) -> list[Span]:
    """Where the words of a text are: runs without white space, the punctuation around them left out.

    A script that writes no spaces between its words makes one word of a clause.
    """
    found = []
    for run in re.finditer(r"\S+", text):
        start, stop = run.span()
        while start < stop and _is_mark(text[start]):
            start += 1
        while start < stop and _is_mark(text[stop - 1]):
            stop -= 1
        if start < stop:
            found.append((start, stop))
    return found


def plain(text: str) -> str:
    """A text without capitals and runs of spaces: texts of which these are equal are the same."""
    return " ".join(text.casefold().split())


def other(text: str, found: Iterable[str]) -> str | None:
    """The first text that is neither empty nor the same; None where there is none."""
    same = {"", plain(text)}
    return next((each for each in found if plain(each) not in same and spans(each)), None)


def changed(text: str, edits: Sequence[Edit], agree: bool = True) -> str:
    """A text with some of its spans rewritten; articles (if they shall agree), spaces and first capital fit.

    A word that leaves the beginning loses its capital there, unless it is "I" or has further capitals.
    """
    words = spans(text)
    start, stop = words[0] if words else (0, 0)
    first = text[start:stop]
    capital = first != "I" and first == first.capitalize() != first.lower()
    moved = capital and any(begin == start for begin, _, _ in edits)
    lower = [(a, b, new.lower() if moved and new == first else new) for a, b, new in edits]
    return " ".join((edited if agree else _rewritten)(text, lower).split())


def _rewritten(text: str, edits: Iterable[Edit]) -> str:
    found = text
    for start, stop, new in sorted(edits, reverse=True):
        found = found[:start] + new + found[stop:]
    return found[:1].upper() + found[1:] if text[:1].isupper() else found


def pieces(size: int, longest: int, rng: random.Random) -> tuple[int, int]:
    """First and last + 1 of a run of 1 to `longest` of `size` words, drawn."""
    length = rng.randint(1, min(longest, size))
    start = rng.randint(0, size - length)
    return start, start + length


def check_longest(longest: int) -> None:
    """Raises ConfigError unless a run has at least one word."""
    if longest < 1:
        raise ConfigError(f"longest={longest} must be at least 1: the words of the longest run")


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
