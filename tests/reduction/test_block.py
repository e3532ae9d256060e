"""Block reduction: a window anywhere, each place equally likely."""

from collections import Counter

from tests.reduction._captions import build, cut, rng, words


def test_the_window_has_no_gaps() -> None:
    reducer = build("block")
    for seed, caption in enumerate(cut()[::17]):
        kept = reducer.keep(caption, 4, rng(seed))
        assert kept == list(range(kept[0], kept[0] + len(kept)))


def test_every_place_is_equally_likely() -> None:
    caption, draws = words(2, 1, 1, 1, 2), 4000  # 7 tokens, 5 windows of 3
    reducer = build("block")
    starts = Counter(reducer.keep(caption, 3, rng(seed))[0] for seed in range(draws))
    assert sorted(starts) == [0, 1, 2, 3, 4]
    spread = (draws * 0.2 * 0.8) ** 0.5
    assert all(abs(count - draws / 5) < 4.5 * spread for count in starts.values())


def test_it_equals_the_list_of_all_windows() -> None:
    caption = words(1, 2, 3, 1)
    reducer = build("block")
    windows = [list(range(7))[start : start + 4] for start in range(4)]
    for seed in range(50):
        expected = windows[int(rng(seed).random() * len(windows))]
        assert reducer.keep(caption, 4, rng(seed)) == expected
