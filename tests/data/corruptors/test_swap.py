"""Two words exchanged: content words first."""

import random

import pytest

from patchclip.data.corruptors.swap import SwapCorruptor


def made(text: str, count: int = 40) -> set[str | None]:
    return {SwapCorruptor().corrupt(text, random.Random(seed)) for seed in range(count)}


def test_content_words_change_places() -> None:
    assert made("the dog behind the house") == {"the house behind the dog"}
    assert made("grinning face") == {"face grinning"}
    assert made("a cat on the big mat") == {"a big on the cat mat", "a mat on the big cat"}


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


@pytest.mark.parametrize(
    "text",
    [
        "salt and pepper",
        "a telescope, study",
        "a dog, a cat and a bird",
        "red, green & blue",
        "a soft rounded emoji",
        "a peach simple",
    ],
)
def test_what_says_the_same_in_any_order_is_left_alone(text: str) -> None:
    assert made(text) == {None}


def test_what_hangs_on_the_parts_of_a_list_is_exchanged() -> None:
    assert made("a red apple and a green pear") == {
        "a green apple and a red pear",
        "a red pear and a green apple",
        "a pear apple and a green red",
    }


def test_every_pair_is_drawn_alike() -> None:
    text = "one red by two green by three blue"
    found = [SwapCorruptor().corrupt(text, random.Random(seed)) for seed in range(300)]
    counts = [found.count(each) for each in set(found)]
    assert len(counts) > 2
    assert max(counts) < 1.6 * min(counts)


def test_articles_and_capitals_agree() -> None:
    assert made("An owl behind a dog.") == {"A dog behind an owl."}
    assert made("Owls behind NASA") == {"NASA behind owls"}


@pytest.mark.parametrize("text", ["word", "dog Dog", "一只狗", ""])
def test_one_word_cannot_be_exchanged(text: str) -> None:
    assert made(text) == {None}
