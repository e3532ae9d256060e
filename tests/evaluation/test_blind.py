"""Baselines without images: closed forms, an independent bigram model, ties."""

import math
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest

from patchclip.data.benchmarks import open_sets
from patchclip.data.sets import Choice, Selection
from patchclip.evaluation._blind import BigramPrior, blind_levels, folds, is_solved


def questions(*captions: tuple[str, ...]) -> list[Choice]:
    return [Choice((i,), each) for i, each in enumerate(captions)]


def test_the_bigram_model_equals_the_formula_by_hand() -> None:
    prior = BigramPrior(["a red dog", "a dog"])
    words = {"a": 2, "red": 1, "dog": 2, "</s>": 2}
    pairs = Counter(
        {("<s>", "a"): 2, ("a", "red"): 1, ("red", "dog"): 1, ("a", "dog"): 1, ("dog", "</s>"): 2}
    )
    before = {"<s>": 2, "a": 2, "red": 1, "dog": 2}

    def probability(first: str, then: str) -> float:
        return (
            0.6 * (pairs[first, then] / before[first] if first in before else 0)
            + 0.3 * words.get(then, 0) / 7
            + 0.1 / 5
        )

    path = ["<s>", "a", "cat", "dog", "</s>"]
    wanted = sum(math.log(probability(*pair)) for pair in pairwise(path))
    assert prior.total("A cat dog!") == pytest.approx(wanted, abs=1e-12)
    assert prior.mean("A cat dog!") == pytest.approx(wanted / 4, abs=1e-12)
    assert prior.rarity("A cat dog!") == -prior.mean("A cat dog!")


def test_the_probabilities_behind_a_known_word_sum_to_one() -> None:
    prior = BigramPrior(["a red dog", "a dog runs", "the dog"])
    known = ["a", "red", "dog", "runs", "the", "</s>", "unknown"]
    assert sum(prior._probability("dog", word) for word in known) == pytest.approx(1.0, abs=1e-12)


def test_length_solves_added_words() -> None:
    found = blind_levels(questions(*[(f"a dog {i}", f"a red dog {i}") for i in range(20)]))
    assert found["shorter"] == found["shorter_characters"] == found["best"] == 1.0
    assert found["longer"] == 0.0
    assert found["best_name"] == "shorter"


def test_ties_count_half_and_swaps_are_not_solved_by_length() -> None:
    found = blind_levels(questions(("a cat eats a bird", "a bird eats a cat"), ("one two", "two one")))
    for rule in ("shorter", "longer", "shorter_characters", "longer_characters"):
        assert found[rule] == 0.5
    three = blind_levels(questions(("one two", "two one", "three")))
    assert three["longer"] == 0.5
    assert three["shorter"] == 0.0


def test_a_prior_solves_what_is_unusual() -> None:
    rows = [(f"a {noun} on a table", f"a table on a {noun}") for noun in ("cup", "cat", "box", "pen") * 5]
    found = blind_levels(questions(*rows))
    assert found["bigram"] == found["bigram_total"] == 1.0
    assert found["unusual"] == 0.0


def test_the_prior_does_not_learn_from_its_own_question() -> None:
    """Each true caption shares no word with another: without its own caption there is nothing to know."""
    rows = [(f"x{i} y{i} z{i}", f"z{i} y{i} x{i}") for i in range(10)]
    found = blind_levels(questions(*rows))
    assert found["bigram"] == found["unusual"] == 0.5
    same_image = [Choice((0,), row) for row in rows]
    assert blind_levels(same_image)["bigram"] == 0.5


def test_several_images_have_no_blind_level() -> None:
    assert blind_levels([Choice((0, 1), ("a b", "b a"))]) == {}
    assert blind_levels([]) == {}


def test_solved_needs_more_than_chance_explains() -> None:
    assert is_solved(0.61, 1000)
    assert not is_solved(0.59, 1000)
    assert not is_solved(0.75, 10)
    assert is_solved(1.0, 10)


def test_three_captions_have_another_chance() -> None:
    """A coin gets a third of them: 0.45 is far above it, and of two captions it is below."""
    assert is_solved(0.45, 1000, captions=3)
    assert not is_solved(0.45, 1000)
    assert not is_solved(0.43, 1000, captions=3)
    assert not is_solved(0.55, 10, captions=3)


def test_halves_share_no_image_and_no_caption() -> None:
    """Chains of questions: 0 and 1 by a caption, 1 and 2 by an image; the rest alone."""
    rows = [("a b", "b a"), ("B a!", "c"), ("d", "e"), ("f", "g"), ("h", "i"), ("j", "k")]
    choices = [Choice((number,), row) for number, row in zip((0, 1, 1, 2, 3, 4), rows, strict=True)]
    found = folds(choices)
    assert found == [0, 0, 0, 1, 1, 1]
    assert folds(choices) == found
    shuffled = [choices[number] for number in (5, 1, 3, 0, 4, 2)]
    together = folds(shuffled)
    assert together[1] == together[3] == together[5] != together[0] == together[2] == together[4]
    assert folds([]) == []
    assert folds([Choice((0,), ("a", "b"))] * 3) == [0, 0, 0]


@pytest.mark.parametrize("kind", ["replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj"])
def test_shipped_scenes_tell_a_prior_nothing(kind: str) -> None:
    """Each false caption is the true one of the mirrored question: halves by image gave 0.71 to 0.78."""
    found = blind_levels(shipped()[kind].choices)
    for rule in ("bigram", "bigram_total", "unusual", "best"):
        assert found[rule] == 0.5
    halves = folds(shipped()[kind].choices)
    assert 0.4 < sum(halves) / len(halves) < 0.6


@pytest.mark.parametrize("kind", ["add_att", "add_obj"])
def test_shipped_additions_are_solved_by_length_and_by_the_prior(kind: str) -> None:
    found = blind_levels(shipped()[kind].choices)
    assert found["shorter"] == found["bigram"] == found["bigram_total"] == found["best"] == 1.0
    assert found["unusual"] == 0.0


@cache
def shipped() -> dict[str, Selection]:
    return {each.kind: each for each in open_sets("samples", ["scenes"]) if isinstance(each, Selection)}
