"""Runs of words left out."""

import random

import pytest

from patchclip.data.corruptors.remove import RemoveCorruptor
from patchclip.errors import ConfigError


def made(text: str, longest: int = 3, count: int = 60) -> set[str | None]:
    return {RemoveCorruptor(longest).corrupt(text, random.Random(seed)) for seed in range(count)}


def test_every_run_is_left_out_once_in_a_while() -> None:
    assert made("p q r s", 1) == {"q r s", "p r s", "p q s", "p q r"}
    assert made("p q r s", 2) == {"q r s", "p r s", "p q s", "p q r", "r s", "p s", "p q"}


@pytest.mark.parametrize("longest", [1, 3, 100])
def test_something_is_left(longest: int) -> None:
    assert made("x y", longest) == {"x", "y"}
    assert all(found for found in made("p q r", longest))


@pytest.mark.parametrize("text", ["word", "(word)", ""])
def test_one_word_stays(text: str) -> None:
    assert made(text) == {None}


def test_marks_are_not_left_alone() -> None:
    assert made("p, q, r.", 1) == {"q, r.", "p, r.", "p, q."}
    assert made("p (q) r", 1) == {"(q) r", "p r", "p (q)"}
    assert made("one dog, two cats", 1) == {"dog, two cats", "one, two cats", "one dog, cats", "one dog, two"}


def test_articles_and_capitals_agree() -> None:
    assert "An owl" in made("A big owl", 1)
    assert "Big owl" in made("A big owl", 1)


def test_a_run_has_a_word() -> None:
    with pytest.raises(ConfigError, match="longest=0 must be at least 1"):
        RemoveCorruptor(0)
