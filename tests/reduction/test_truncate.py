"""Truncation keeps the first tokens."""

from tests.reduction._captions import build, cut, rng, words


def test_the_first_tokens_stay() -> None:
    assert build("truncate").keep(words(2, 3, 1), 4, rng()) == [0, 1, 2, 3]
    assert build("truncate").keep(words(1), 4, rng()) == [0]


def test_chance_has_no_say() -> None:
    reducer = build("truncate")
    for caption in cut()[::31]:
        assert reducer.keep(caption, 3, rng(1)) == reducer.keep(caption, 3, rng(2))
