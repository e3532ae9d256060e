"""Cleaning and choice of captions."""

from collections import Counter

import pytest

from patchclip.data import captions
from patchclip.data._order import draws
from patchclip.errors import ConfigError


@pytest.mark.parametrize(
    "text, expected",
    [
        ("  a cat ", "a cat"),
        ("a\n\tcat\u00a0 on  a mat", "a cat on a mat"),
        ("", ""),
        (" \n ", ""),
        ("caf\u00e9 \U0001f408", "caf\u00e9 \U0001f408"),
        ("a \ud800cat", "a cat"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert captions.clean(text) == expected


def test_cleaned_keeps_the_order_and_drops_the_empty() -> None:
    assert captions.cleaned([" b ", "", "\t", "a"]) == ("b", "a")
    assert captions.cleaned([]) == ()


def test_choose_takes_draw_modulo_or_the_first() -> None:
    texts = ("a", "b", "c")
    assert [captions.choose(texts, "random", draw) for draw in range(5)] == ["a", "b", "c", "a", "b"]
    assert {captions.choose(texts, "first", draw) for draw in range(5)} == {"a"}
    assert captions.choose(("only",), "random", 2**64 - 1) == "only"


def test_random_choice_over_epochs_is_even() -> None:
    counts = Counter(captions.choose("abcd", "random", draws(3, epoch, 17)[1]) for epoch in range(2000))
    assert sorted(counts) == list("abcd")
    assert max(abs(count - 500) for count in counts.values()) < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_choose_refuses_unknown_modes_and_nothing_to_choose() -> None:
    with pytest.raises(ConfigError, match=r"caption='longest' must be one of random, first"):
        captions.choose(("a",), "longest", 0)
    with pytest.raises(ValueError, match="at least one caption"):
        captions.choose((), "first", 0)
