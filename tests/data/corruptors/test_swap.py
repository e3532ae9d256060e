"""Two words exchanged: content words first."""

import random

import pytest

from patchclip.data.corruptors.swap import SwapCorruptor


def made(text: str, count: int = 40) -> set[str | None]:
    return {SwapCorruptor().corrupt(text, random.Random(seed)) for seed in range(count)}


def test_content_words_change_places() -> None:
    assert made("the dog behind the house") == {"the house behind the dog"}
    assert made("grinning face") == {"face grinning"}
    assert made("a cat on the big mat") == {
        "a big on the cat mat",
        "a mat on the big cat",
        "a cat on the mat big",
    }


def test_exactly_two_words_differ() -> None:
    words = ["one", "red", "car", "two", "green", "houses"]
    for found in made(" ".join(words)):
        assert found is not None
        moved = [i for i, (old, new) in enumerate(zip(words, found.split(), strict=True)) if old != new]
        i, j = moved
        assert (found.split()[i], found.split()[j]) == (words[j], words[i])


def test_without_two_content_words_any_are_taken() -> None:
    assert made("a dog") == {"dog a"}
    assert made("in the house") == {"the in house", "house the in", "in house the"}


@pytest.mark.parametrize("text", ["salt and pepper on wood", "salt, pepper on wood"])
def test_a_list_is_no_order(text: str) -> None:
    found = made(text)
    assert len(found) == 2
    assert not any(str(each).startswith("pepper") and str(each).endswith("wood") for each in found)


def test_a_list_alone_is_exchanged_all_the_same() -> None:
    assert made("salt and pepper") == {"pepper and salt"}


def test_articles_and_capitals_agree() -> None:
    assert made("An owl behind a dog.") == {"A dog behind an owl."}
    assert made("Owls behind NASA") == {"NASA behind owls"}


@pytest.mark.parametrize("text", ["word", "dog Dog", "一只狗", ""])
def test_one_word_cannot_be_exchanged(text: str) -> None:
    assert made(text) == {None}
