"""Runs of words said again."""

import random
from collections import Counter

import pytest

from patchclip.data.corruptors.repeat import RepeatCorruptor
from patchclip.errors import ConfigError


def made(text: str, longest: int = 3, times: int = 3, count: int = 60) -> set[str | None]:
    corruptor = RepeatCorruptor(longest, times)
    return {corruptor.corrupt(text, random.Random(seed)) for seed in range(count)}


def test_one_word_is_repeated() -> None:
    assert made("dog", 1, 1) == {"dog dog"}
    assert made("dog") == {"dog dog", "dog dog dog", "dog dog dog dog"}


def test_a_word_comes_before_a_word_or_at_the_end() -> None:
    assert made("p q", 1, 1) == {"p p q", "p q p", "q p q", "p q q"}


def test_words_are_added_and_the_others_keep_their_order() -> None:
    text = "p q r s t"
    for found in made(text):
        assert found is not None
        added = Counter(found.split()) - Counter(text.split())
        assert 1 <= max(added.values()) <= 3
        assert 1 <= len(added) <= 3
        left = iter(found.split())
        assert all(word in left for word in text.split())


def test_marks_do_not_part_from_their_words() -> None:
    assert made("p, q.", 1, 1) == {"p p, q.", "q p, q.", "p, p q.", "p, q q.", "p, q. p", "p, q. q"}


def test_articles_are_not_repaired() -> None:
    assert "a a dog" in made("a dog", 1, 1)


@pytest.mark.parametrize("options, message", [((0,), "longest=0"), ((1, 0), "times=0")])
def test_options_are_checked(options: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"{message} must be at least 1"):
        RepeatCorruptor(*options)
