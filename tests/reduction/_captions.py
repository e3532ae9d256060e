"""Captions for the reducers: the shipped ones, cut by open_clip's tokenizer, and made-up ones."""

import random
from collections import Counter
from dataclasses import replace
from functools import cache

from open_clip import SimpleTokenizer

from patchclip import registry
from patchclip.contracts import Counting, Reducer, Words
from patchclip.data.pairs import open_pairs
from patchclip.models.words import cutter


@cache
def shipped() -> tuple[str, ...]:
    """Every fifteenth shipped pair's captions, each once."""
    source = open_pairs("samples")
    return tuple(sorted({text for pair in range(0, len(source), 15) for text in source.texts(pair)}))


@cache
def cut() -> tuple[Words, ...]:
    """The shipped captions in words."""
    return tuple(found.words for found in cutter(SimpleTokenizer()).cut(shipped()))


@cache
def counts() -> Counter[str]:
    """How often each word stands in them."""
    return Counter(text for words in cut() for text in words.texts)


def build(name: str, **options: object) -> Reducer:
    """A reducer, with the counts of the shipped captions where it needs some."""
    made: Reducer = registry.build("reduction", name, **options)
    if isinstance(made, Counting) and made.needs_counts:
        made = made.counted(counts())
    return made


def words(*lengths: int, texts: str = "") -> Words:
    """A caption whose words have these many tokens: ids count up from 100."""
    ids = iter(range(100, 100 + sum(lengths)))
    tokens = tuple(tuple(next(ids) for _ in range(length)) for length in lengths)
    return Words(tokens, tuple(texts.split()) or tuple(f"word{number}" for number in range(len(lengths))))


def without_text(made: Words) -> Words:
    return replace(made, texts=())


def rng(seed: int = 0) -> random.Random:
    return random.Random(seed)


def owners(made: Words) -> list[int]:
    """The number of the word at each place."""
    return [number for number, tokens in enumerate(made.tokens) for _ in tokens]


def greedy(made: Words, order: list[int], room: int) -> list[int]:
    """Independent of the library: the places kept when words are wanted in this order, token by token."""
    owner = owners(made)
    chosen: set[int] = set()
    late = None
    for number in order:
        own = {place for place in range(len(owner)) if owner[place] == number}
        if len(chosen | own) <= room:
            chosen |= own
        elif late is None:
            late = number
    for place in range(len(owner)):
        if late is not None and owner[place] == late and len(chosen) < room:
            chosen.add(place)
    return [place for place in range(len(owner)) if place in chosen]
