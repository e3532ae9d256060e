"""Hits, groups, changed images and intervals, by hand."""

import pytest
import torch
from torch import Tensor

from patchclip.engine.adapting.judging import Answers, answers, changed, class_rows, gain_interval

LABELS = torch.tensor([0, 1, 2, 2, 0])


def told(hits: list[int], guesses: list[int]) -> Answers:
    return Answers(torch.tensor(hits).bool(), torch.tensor(guesses))


def test_an_image_is_asked_among_the_classes_of_its_group() -> None:
    scores = torch.tensor([[1.0, 0, 9], [2, 1, 0], [9, 9, 1], [9, 9, 2], [3, 3, 0]])

    def scorer(rows: Tensor) -> Tensor:
        return scores[rows[:, 0].long()]

    rows = torch.arange(5.0)[:, None]
    apart = answers(scorer, rows, LABELS, [range(2), range(2, 3)])
    assert apart.hits.tolist() == [True, False, True, True, False]  # the last is a tie
    assert apart.guesses.tolist() == [0, 0, 2, 2, 0]
    together = answers(scorer, rows, LABELS, [range(3)])
    assert together.hits.tolist() == [False] * 5
    near = answers(lambda x: scorer(x) * 1e-7, rows, LABELS, [range(2), range(2, 3)], tie=1e-6)
    assert near.hits.tolist() == [False, False, True, True, False]


def test_changed_images_are_those_of_most_seeds() -> None:
    before = told([0, 1, 1, 0, 0], [1, 1, 2, 0, 2])
    after = [
        told([1, 0, 1, 0, 1], [0, 2, 2, 1, 0]),
        told([1, 0, 0, 1, 0], [0, 2, 0, 2, 1]),
        told([1, 1, 1, 0, 1], [0, 1, 2, 1, 0]),
    ]
    found = changed(before, after, LABELS, torch.tensor([10, 11, 12, 13, 14]))
    assert [(each["image"], each["right"]) for each in found] == [(10, True), (14, True), (11, False)]
    assert found[0] == {"image": 10, "label": 0, "before": 1, "after": 0, "right": True, "seeds": 1.0}
    assert found[2] == {
        "image": 11,
        "label": 1,
        "before": 1,
        "after": 2,
        "right": False,
        "seeds": pytest.approx(1 / 3),
    }


def test_recall_by_class() -> None:
    before, after = (
        told([0, 1, 1, 0, 0], [0] * 5),
        [told([1, 1, 0, 0, 1], [0] * 5), told([1, 0, 0, 0, 0], [0] * 5)],
    )
    found = class_rows(before, after, LABELS, ["a", "b", "c", "empty"])
    assert [(row["name"], row["images"], row["before"], row["after"]) for row in found] == [
        ("a", 2, 0.0, 0.75),
        ("b", 1, 1.0, 0.5),
        ("c", 2, 0.5, 0.0),
    ]


def test_the_interval_is_that_of_the_mean_of_the_seeds() -> None:
    n = 400
    before = told([0] * n, [0] * n)
    hits = [int(i % 4 == 0) for i in range(n)]
    after = [told(hits, [0] * n), told(hits, [0] * n)]
    low, high = gain_interval(before, after, torch.ones(n, dtype=torch.bool)) or (0.0, 0.0)
    error = (0.25 * 0.75 / n) ** 0.5
    assert low == pytest.approx(0.25 - 1.96 * error, abs=0.01)
    assert high == pytest.approx(0.25 + 1.96 * error, abs=0.01)
    assert gain_interval(before, [before], torch.ones(n, dtype=torch.bool)) == (0.0, 0.0)
