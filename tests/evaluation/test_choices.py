"""Outcomes of questions: against slow loops, planted cosines, and the defect of the first of equals."""

import math

import pytest
import torch

from patchclip.data.sets import Choice
from patchclip.evaluation._choices import chance, examples, first_of_largest, macro, outcomes
from patchclip.evaluation._metrics import COSINE_TIE

SIZES = [(1, 2), (1, 5), (2, 2), (3, 3), (2, 4), (4, 2)]
sizes = pytest.mark.parametrize("size", SIZES, ids=str)


def slow(question: list[list[float]]) -> tuple[bool, bool]:
    """The same with loops."""
    pairs = range(min(len(question), len(question[0])))
    text = all(
        question[k][k] > other + COSINE_TIE for k in pairs for j, other in enumerate(question[k]) if j != k
    )
    image = all(
        question[k][k] > row[k] + COSINE_TIE for k in pairs for j, row in enumerate(question) if j != k
    )
    return text, image


@sizes
def test_outcomes_equal_slow_loops(size: tuple[int, int], seeded: torch.Generator) -> None:
    cosines = torch.randint(-3, 4, (300, *size), generator=seeded) / 4.0
    cosines += 3e-7 * torch.rand(cosines.shape, generator=seeded)
    found = outcomes(cosines)
    wanted = [slow(question) for question in cosines.tolist()]
    assert list(zip(found.text.tolist(), found.image.tolist(), strict=True)) == wanted
    assert torch.equal(found.both, found.text & found.image)
    assert 0 < int(found.text.sum()) < 300


@sizes
def test_planted(size: tuple[int, int]) -> None:
    right = torch.eye(max(size))[: size[0], : size[1]].expand(7, -1, -1)
    for found in (outcomes(right), first_of_largest(right)):
        assert bool(found.both.all())
    constant = torch.full((7, *size), 0.3) + 1e-8
    assert not outcomes(constant).text.any()
    assert not outcomes(constant).both.any()
    loose = first_of_largest(constant)
    assert bool(loose.both.all()) == (min(size) == 1), "1.0 for one image, 0.0 for Winoground"
    assert bool(loose.both.any()) == (min(size) == 1)
    unknown = outcomes(torch.full((7, *size), torch.nan))
    assert not unknown.text.any()
    assert not unknown.both.any()


def test_one_cosine_that_is_not_a_number_counts_against_the_model() -> None:
    assert not outcomes(torch.tensor([[[torch.nan, 0.0]]])).text.any()
    assert not outcomes(torch.tensor([[[1.0, torch.nan]]])).text.any()
    assert not outcomes(torch.tensor([[[torch.inf, 0.0]]])).text.any()


def test_one_image_always_finds_itself() -> None:
    assert bool(outcomes(torch.tensor([[[0.1, 0.9]]])).image.all())


@pytest.mark.parametrize("size", [(1, 2), (1, 5), (2, 2)], ids=str)
def test_chance_is_what_random_cosines_score(size: tuple[int, int], seeded: torch.Generator) -> None:
    count = 20000
    found = outcomes(torch.rand(count, *size, generator=seeded), tie=0.0)
    scores = {"text_acc": found.text, "image_acc": found.image, "acc": found.both}
    for name, expected in chance(*size).items():
        spread = 5 * math.sqrt(expected * (1 - expected) / count)
        assert float(scores[name].double().mean()) == pytest.approx(expected, abs=spread), name


def test_chance_of_winoground_and_sugar_crepe() -> None:
    assert chance(2, 2) == {"text_acc": 1 / 4, "image_acc": 1 / 4, "acc": 1 / 6}
    assert chance(1, 2) == {"text_acc": 1 / 2, "acc": 1 / 2}
    assert "acc" not in chance(3, 3)


def test_examples_are_spread_by_place() -> None:
    choices = [Choice((i,), (f"right {i}", f"wrong {i}", f"worse {i}")) for i in range(100)]
    cosines = torch.tensor([[[0.5, 0.6, 0.1]]]).repeat(100, 1, 1)
    cosines[50:, 0, 0] = 0.9
    wanted = outcomes(cosines).both
    failing, right = examples(choices, cosines, ~wanted, 5), examples(choices, cosines, wanted, 2)
    assert [each["image"] for each in failing] == [5, 15, 25, 35, 45]
    assert [each["image"] for each in right] == [62, 87]
    assert failing[0] == {
        **{"image": 5, "right": "right 5", "wrong": "wrong 5", "chosen": "wrong 5", "margin": -0.1},
    }
    assert right[0]["chosen"] == "right 62"
    assert right[0]["margin"] == 0.3
    assert examples(choices, cosines, torch.zeros(100, dtype=torch.bool), 6) == []


def test_an_example_of_several_images_has_them_all() -> None:
    choice = Choice((3, 4), ("one", "two"))
    (found,) = examples([choice], torch.tensor([[[0.5, 0.1], [0.7, 0.6]]]), torch.tensor([True]), 6)
    assert found["image"] == 4
    assert (found["right"], found["chosen"]) == ("two", "one")
    assert (found["images"], found["captions"]) == ([3, 4], ["one", "two"])


def test_the_macro_mean_counts_every_group_once() -> None:
    groups = ["on", "on", "on", "on", "wears", "", ""]
    choices = [Choice((i,), ("a", "b"), group) for i, group in enumerate(groups)]
    right = torch.tensor([True, False, False, False, True, False, False])
    assert macro(choices, right) == (1 / 4 + 1) / 2
    assert macro(choices[5:], right[5:]) is None
    assert macro([], right[:0]) is None
