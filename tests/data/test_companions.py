"""Companions of a caption: false ones that are never true, shorter ones that are a beginning."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from patchclip.data.companions import Corrupted, ShortText


@dataclass(frozen=True)
class Says:
    """A corruptor that always says the same."""

    answer: str | None

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        return self.answer


@dataclass(frozen=True)
class Listens:
    """A corruptor that answers with what it was told to avoid."""

    known: tuple[str, ...] = ()

    def avoiding(self, captions: Sequence[str]) -> "Listens":
        return Listens(tuple(captions))

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        return f"not {' or '.join(self.known)}, {rng.random()}"


def corrupted(answer: str | None, *captions: str) -> str | None:
    return Corrupted(Says(answer))(captions, captions[0], random.Random(0))


def test_a_corrupted_caption_is_what_the_corruptor_says() -> None:
    assert corrupted("a cat", "a dog", "one dog") == "a cat"
    assert corrupted(None, "a dog") is None


@pytest.mark.parametrize("answer", ["a dog", "A  dog.", "One dog", "the dog!", " a\tDOG "])
def test_what_another_caption_says_is_not_false(answer: str) -> None:
    assert corrupted(answer, "a dog", "one dog", "The dog") is None


def test_marks_alone_can_be_told_apart() -> None:
    assert corrupted("☂ ☀", "☀ ☂") == "☂ ☀"
    assert corrupted("☀ ☂", "☀  ☂") is None


def test_a_corruptor_hears_what_is_true_of_the_image_and_draws_from_the_rng() -> None:
    found = [Corrupted(Listens())(("a", "b"), "a", random.Random(seed)) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert found[0] is not None
    assert found[0].startswith("not a or b, ")


def short(chosen: str, *others: str) -> str | None:
    return ShortText()((chosen, *others), chosen, random.Random(0))


def test_the_shortest_further_caption_is_the_short_text() -> None:
    assert (
        short("a big dog on the grass", "a dog on grass", "a big dog", "a very big dog lies") == "a big dog"
    )
    assert short("one two three", "aaaa bbbb", "aa bb") == "aa bb"


def test_no_caption_is_shortened_by_a_longer_one() -> None:
    assert short("a dog", "a big dog on the grass") is None
    assert short("a dog", "a dog") is None


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A dog runs. It is brown.", "A dog runs."),
        ("Is it a dog? It is! Good.", "Is it a dog?"),
        ("A view of St. Mary", None),
        ("A view of St. Mary. It is old.", "A view of St. Mary."),
        ("Version 2.5 of a dog.", None),
        ("一只狗。它在跑。", "一只狗。"),
        ("A dog runs.", None),
        ("a dog on a sofa, seen from above", "a dog on a sofa"),
        ("a dog on a sofa - seen from above", "a dog on a sofa"),
        ("a red, white and blue flag", None),
        ("behind it, a dog on a sofa, asleep", "behind it, a dog on a sofa"),
        ("a dog on a sofa", None),
        ("", None),
        (". ,", None),
    ],
)
def test_a_single_caption_is_cut_where_a_sentence_or_a_clause_ends(text: str, expected: str | None) -> None:
    assert short(text) == expected
    if expected is not None:
        assert text.startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        "x, " * 3333,
        ", ".join(f"lovely{i}" for i in range(900)),
        "A b. " * 2000,
        "." * 10_000,
        "w" * 9990 + " x. A b",
        "!! " * 3333,
        " -" * 5000,
        "a big red dog near a house, " * 350,
    ],
    ids=lambda text: text[:8],
)
def test_a_long_caption_is_cut_at_once(text: str) -> None:
    """Took up to 40 s where every beginning of the caption was parsed anew."""
    start = time.process_time()
    found = short(text)
    assert time.process_time() - start < 0.5
    assert found is None or text.startswith(found)


def test_an_end_is_looked_for_in_the_beginning() -> None:
    filler = "very " * 300
    assert short(f"a {filler} dog, asleep. It rests.") is None
    assert short(f"a dog, {filler} asleep. It rests.") == "a dog"
    assert short(f"  A dog, {filler} asleep. It rests.") == "A dog"
