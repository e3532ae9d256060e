"""Random reduction: every word equally likely, whole words unless tokens are asked for."""

from collections import Counter

import pytest

from tests.reduction._captions import build, cut, greedy, rng, words


@pytest.mark.parametrize("seed", range(5))
def test_it_keeps_the_words_of_the_lowest_draws(seed: int) -> None:
    reducer = build("random")
    for caption in cut()[::11]:
        for room in (2, 4, 6):
            chance = rng(seed)
            drawn = [chance.random() for _ in caption.tokens]
            order = [number for _, number in sorted(zip(drawn, range(len(drawn)), strict=True))]
            assert reducer.keep(caption, room, rng(seed)) == greedy(caption, order, room)


def test_every_word_is_as_likely_as_any_other() -> None:
    caption, draws = words(1, 1, 1, 1, 1, 1, 1), 4000
    reducer = build("random")
    kept = Counter(place for seed in range(draws) for place in reducer.keep(caption, 3, rng(seed)))
    spread = (draws * 3 / 7 * 4 / 7) ** 0.5
    assert all(abs(kept[place] - draws * 3 / 7) < 4.5 * spread for place in range(7))


def test_all_subsets_come_up() -> None:
    reducer = build("random")
    kept = {tuple(reducer.keep(words(1, 1, 1, 1), 2, rng(seed))) for seed in range(200)}
    assert len(kept) == 6


def test_words_stay_whole_unless_tokens_are_drawn() -> None:
    caption = words(2, 2, 2)
    reducer, scattered = build("random"), build("random", whole_words=False)
    whole = {tuple(reducer.keep(caption, 4, rng(seed))) for seed in range(100)}
    assert whole == {(0, 1, 2, 3), (0, 1, 4, 5), (2, 3, 4, 5)}
    single = {tuple(scattered.keep(caption, 4, rng(seed))) for seed in range(400)}
    assert len(single) == 15  # 6 choose 4
