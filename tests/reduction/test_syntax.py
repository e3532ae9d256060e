"""Syntax reduction: nouns, adjectives, verbs, the rest."""

import pytest
from textblob.en.taggers import PatternTagger

from patchclip.contracts import Words
from tests.reduction._captions import build, cut, greedy, owners, rng, words

CAPTION = words(1, 1, 1, 1, 1, 1, 1, texts="a man riding the blue bicycle quickly")


def tags(caption: Words) -> list[str]:
    """Independent of the library: the tag of each word."""
    return [tag for _, tag in PatternTagger().tag(" ".join(caption.texts), tokenize=False)]


def kept(caption: Words, room: int) -> str:
    owner = owners(caption)
    return " ".join(caption.texts[owner[place]] for place in build("syntax").keep(caption, room, rng()))


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (1, "man"),
        (2, "man bicycle"),
        (3, "man blue bicycle"),
        (4, "man riding blue bicycle"),
        (5, "a man riding blue bicycle"),
    ],
)
def test_nouns_then_adjectives_then_verbs_then_the_rest(room: int, expected: str) -> None:
    assert tags(CAPTION) == ["DT", "NN", "VBG", "DT", "JJ", "NN", "RB"]
    assert kept(CAPTION, room) == expected


@pytest.mark.parametrize("room", [2, 4, 6])
def test_it_equals_the_slow_reference_on_shipped_captions(room: int) -> None:
    reducer = build("syntax")
    for caption in cut()[::7]:
        found = tags(caption)
        order = []
        for part in ("NN", "JJ", "VB"):
            order += [number for number, tag in enumerate(found) if tag.startswith(part)]
        order += [number for number in range(len(found)) if number not in order]
        assert reducer.keep(caption, room, rng()) == greedy(caption, order, room)


def test_all_nouns_stay_if_they_fit() -> None:
    reducer, checked = build("syntax"), 0
    for caption in cut():
        nouns = {number for number, tag in enumerate(tags(caption)) if tag.startswith("NN")}
        room = sum(len(caption.tokens[number]) for number in nouns)
        if 0 < room < caption.length:
            owner = owners(caption)
            assert {owner[place] for place in reducer.keep(caption, room, rng())} == nouns
            checked += 1
    assert checked > 300


def test_a_noun_of_several_tokens_costs_them_all() -> None:
    caption = words(1, 3, 1, texts="a bicycle man")
    assert build("syntax").keep(caption, 3, rng()) == [1, 2, 3]
    assert build("syntax").keep(caption, 2, rng()) == [0, 4]  # whole words before a part of "bicycle"
    assert build("syntax").keep(words(2, 3, texts="a bicycle"), 4, rng()) == [0, 2, 3, 4]


@pytest.mark.parametrize("texts", [("\u2028", "a", "/", "&slash;"), ("", "", ""), ("a b", "\t", "cat")])
def test_odd_words_are_tagged_one_by_one(texts: tuple[str, ...]) -> None:
    caption = Words(tuple((number,) for number in range(len(texts))), texts)
    assert len(build("syntax").keep(caption, 2, rng())) == 2
