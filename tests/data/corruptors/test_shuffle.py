"""The order of words, all of them and nothing else."""

import random
from collections import Counter

import pytest

from patchclip.data.corruptors.shuffle import ShuffleCorruptor


def made(text: str, seed: int = 0) -> str | None:
    return ShuffleCorruptor().corrupt(text, random.Random(seed))


def test_words_stay_and_change_places() -> None:
    text = "a red car behind the green house"
    for seed in range(20):
        found = made(text, seed)
        assert found is not None
        assert Counter(found.split()) == Counter(text.split())


def test_every_other_order_is_drawn_alike() -> None:
    counts = Counter(made("x y z", seed) for seed in range(400))
    assert set(counts) == {"x z y", "y x z", "y z x", "z x y", "z y x"}
    assert max(abs(count - 80) for count in counts.values()) < 5 * (400 / 5 * 4 / 5) ** 0.5


def test_punctuation_keeps_its_place() -> None:
    assert {made("one, (two) - three!", seed) for seed in range(30)} >= {"two, (one) - three!"}


def test_the_rarest_other_order_is_found() -> None:
    text = "x " * 30 + "y"
    assert all((made(text, seed) or "").split().count("y") == 1 for seed in range(50))


@pytest.mark.parametrize("text", ["word", "same Same SAME", "一只狗", "- word -"])
def test_one_word_has_no_other_order(text: str) -> None:
    assert made(text) is None


def test_capitals() -> None:
    assert made("A dog") == "Dog a"
    assert made("NASA dog") == "Dog NASA"
    assert made("I run") == "Run I"
