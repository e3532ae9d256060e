"""Texts that accompany a caption in training: one that is false of the image, a shorter one."""

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from patchclip.contracts import TextCorruptor
from patchclip.data.grammar.phrases import parse

Companion = Callable[[tuple[str, ...], str, random.Random], str | None]
"""(all captions of the image, the chosen one, rng) -> a text that accompanies it; None if there is none."""

_SENTENCE = re.compile(r"(?<![.!?])[.!?]+(?=\s+[^\sa-z])|[。！？]")
_CLAUSE = re.compile(r"[,;:]\s|\s[-–—(]")
_LONGEST = 1_000
"""Characters of a caption in which the end of its first sentence or clause is looked for."""
_SHORTEST_END = 3
"""Letters of a word before a full stop that surely ends a sentence ("St. Mary", "Mr. Fox")."""


@runtime_checkable
class Avoiding(Protocol):
    """A corruptor that makes use of what else is true of the image."""

    def avoiding(self, captions: Sequence[str]) -> TextCorruptor:
        """The same corruptor, for an image of which all these captions are true."""
        ...


@runtime_checkable
class Fitted(Protocol):
    """A corruptor that may know the training captions, but need not."""

    def fitted(self, captions: Iterable[str]) -> TextCorruptor:
        """The same corruptor with what it reads in them."""
        ...


@dataclass(frozen=True)
class Corrupted:
    """The caption made false, or no language, by a corruptor.

    Nothing that another caption of the image says, spaces, capitals and punctuation aside, is returned.

    Args:
        corruptor: a method of `data/corruptors/`.
    """

    corruptor: TextCorruptor

    def __call__(self, captions: tuple[str, ...], chosen: str, rng: random.Random) -> str | None:
        """The corrupted caption, or None."""
        corruptor = self.corruptor
        if isinstance(corruptor, Avoiding):
            corruptor = corruptor.avoiding(captions)
        found = corruptor.corrupt(chosen, rng)
        true = {_plain(each) for each in (chosen, *captions)}
        return None if found is None or _plain(found) in true else found


@dataclass(frozen=True)
class ShortText:
    """The shortest further caption of the image; else the beginning of the caption, up to where a sentence
    or a clause ends, if the grammar of `data/grammar` finds an object in it.

    The end is looked for in the first 1,000 characters. The short text has fewer words than the chosen
    caption, else there is none.
    """

    def __call__(self, captions: tuple[str, ...], chosen: str, rng: random.Random) -> str | None:
        """The short text, or None; nothing is drawn."""
        further = [each for each in captions if _length(each) < _length(chosen)]
        if further:
            return min(further, key=lambda each: (_length(each), len(each)))
        return _sentence(chosen) or _clause(chosen)


def _sentence(text: str) -> str | None:
    words = [word.span() for word in re.finditer(r"\w+", text[:_LONGEST])]
    ends = [stop for _, stop in words]
    for mark in _SENTENCE.finditer(text, 0, _LONGEST):
        before = bisect_right(ends, mark.end()) - 1
        ended = before >= 0 and (mark[0] in "。！？" or words[before][1] - words[before][0] >= _SHORTEST_END)
        if ended and text[mark.end() :].strip():
            return text[: mark.end()].strip()
    return None


def _clause(text: str) -> str | None:
    """The text before the first comma, dash or the like behind an object."""
    read = text.strip()[:_LONGEST]
    first = next((phrase.stop for phrase in parse(read).phrases if phrase.names_object), len(read))
    for mark in _CLAUSE.finditer(read):
        if mark.start() >= first:
            found = read[: mark.start()].strip()
            return found if _length(found) < _length(text) else None
    return None


def _length(text: str) -> int:
    return len(text.split())


def _plain(text: str) -> str:
    """A text without what makes no other one of it: capitals, spaces and punctuation."""
    words = re.findall(r"[^\W_]+", text.casefold())
    return " ".join(words) or " ".join(text.split())
