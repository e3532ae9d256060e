"""Filling the room with whole words."""

import random

import pytest

from patchclip.reduction._fill import fill
from tests.reduction._captions import greedy, words


def test_whole_words_come_first_and_a_cut_one_last() -> None:
    caption = words(2, 3, 1, 1)  # places 01 234 5 6
    assert fill(caption, [1, 0, 2, 3], 4) == [2, 3, 4, 5]  # word 0 does not fit, word 2 does
    assert fill(caption, [1, 0, 3, 2], 7) == [0, 1, 2, 3, 4, 5, 6]
    assert fill(caption, [0, 1], 4) == [0, 1, 2, 3]  # the start of word 1
    assert fill(caption, [1], 2) == [2, 3]
    assert fill(caption, [1, 0], 0) == []


@pytest.mark.parametrize("seed", range(40))
def test_it_equals_the_slow_reference(seed: int) -> None:
    chance = random.Random(seed)
    caption = words(*(chance.randint(1, 5) for _ in range(chance.randint(1, 9))))
    order = chance.sample(range(len(caption.tokens)), len(caption.tokens))
    for room in range(caption.length + 2):
        kept = fill(caption, order, room)
        assert kept == greedy(caption, order, room)
        assert len(kept) == min(room, caption.length)
