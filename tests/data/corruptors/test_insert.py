"""Foreign words."""

import random

import pytest

from patchclip.data.corruptors.insert import InsertCorruptor, vocabulary
from patchclip.errors import ConfigError


def made(text: str, count: int = 60, **options: object) -> set[str | None]:
    corruptor = InsertCorruptor(**options)  # type: ignore[arg-type]
    return {corruptor.corrupt(text, random.Random(seed)) for seed in range(count)}


def test_a_word_comes_before_a_word_or_at_the_end() -> None:
    assert made("p q", most=1, words=("x",)) == {"x p q", "p x q", "p q x"}


def test_up_to_so_many_words_are_put_in() -> None:
    sizes = {len(str(found).split()) for found in made("p q", most=4, words=("x", "y"))}
    assert sizes == {3, 4, 5, 6}


def test_no_word_of_the_text_is_put_in() -> None:
    assert made("Dog dog", words=("dog", "DOG")) == {None}
    assert made("a dog", most=1, words=("dog", "cat")) == {"cat a dog", "a cat dog", "a dog cat"}


def test_the_vocabulary_is_the_grammar_s() -> None:
    assert {"dog", "car", "red", "striped"} <= set(vocabulary())
    assert list(vocabulary()) == sorted(set(vocabulary()))
    for found in made("a lamp"):
        assert found is not None
        assert set(found.split()) - {"a", "an", "lamp"} <= set(vocabulary())


def test_articles_agree() -> None:
    assert made("a dog", most=1, words=("old",)) == {"old a dog", "an old dog", "a dog old"}


@pytest.mark.parametrize(
    "options, message", [({"most": 0}, "most=0 must be at least 1"), ({"words": ("a", " ")}, "hold a letter")]
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InsertCorruptor(**options)  # type: ignore[arg-type]
