"""Frequency reduction: rare words stay more often, by the formula."""

import math
import statistics
from collections import Counter
from pathlib import Path

import pytest

from patchclip import registry
from patchclip.contracts import Words
from patchclip.errors import ConfigError
from tests.reduction._captions import build, counts, cut, greedy, rng, words

T = 1e-4


def share(word: str, threshold: float = T, least: int = 5) -> float:
    """Independent of the library: the probability with which the paper masks a word."""
    often = {other: count for other, count in counts().items() if count >= least}
    if word not in often:
        return 1.0
    return max(0.0, 1 - math.sqrt(threshold / (often[word] / sum(often.values()))))


def chances(caption: Words, room: int, cells: int = 200) -> list[float]:
    """The closed form for words of one token: the chance of each to be kept, by integrating over its draw.

    Word i is kept if fewer than `room` others have a higher u - P.
    """
    shares = [share(text) for text in caption.texts]
    found = []
    for i, own in enumerate(shares):
        total = 0.0
        for cell in range(cells):
            score = (cell + 0.5) / cells - own
            above = [1.0] + [0.0] * len(shares)  # distribution of how many others are above
            for j, other in enumerate(shares):
                if j != i:
                    p = min(1.0, max(0.0, 1 - (score + other)))
                    above = [above[0] * (1 - p)] + [
                        above[n] * (1 - p) + above[n - 1] * p for n in range(1, len(above))
                    ]
            total += sum(above[:room])
        found.append(total / cells)
    return found


def long_captions() -> list[Words]:
    """Shipped captions of at least eight words of one token each."""
    return [found for found in cut() if len(found.tokens) >= 8 and found.length == len(found.tokens)]


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_the_slow_reference(seed: int) -> None:
    reducer = build("frequency", threshold=T)
    for caption in cut()[::13]:
        chance = rng(seed)
        score = [chance.random() - share(text) for text in caption.texts]
        order = sorted(range(len(score)), key=score.__getitem__, reverse=True)
        for room in (2, 6):
            assert reducer.keep(caption, room, rng(seed)) == greedy(caption, order, room)


@pytest.mark.parametrize("threshold", [1e-6, 1e-4, 1.0])
def test_the_probability_of_each_word_is_the_papers(threshold: float) -> None:
    reducer = build("frequency", threshold=threshold)
    for word in list(counts())[::20]:
        assert reducer.masked.get(word, 1.0) == pytest.approx(share(word, threshold), abs=1e-12)


def test_words_of_shipped_captions_stay_as_often_as_the_formula_says() -> None:
    reducer, draws, places = build("frequency", threshold=T), 600, 3
    for caption in long_captions()[::40][:4]:
        expected = chances(caption, places)
        assert sum(expected) == pytest.approx(places, abs=0.02)
        rates = []
        for block in range(5):  # five seeds of the experiment, for its spread
            kept = Counter(
                place
                for draw in range(draws)
                for place in reducer.keep(caption, places, rng(block * draws + draw))
            )
            rates.append([kept[place] / draws for place in range(caption.length)])
        for place, chance in enumerate(expected):
            of_place = [rate[place] for rate in rates]
            spread = math.sqrt(chance * (1 - chance) / draws)
            assert statistics.mean(of_place) == pytest.approx(chance, abs=4 * spread / math.sqrt(5) + 0.01)
            assert statistics.stdev(of_place) < 3 * spread + 0.01


def test_two_words_compete_by_the_difference_of_their_probabilities() -> None:
    reducer = build("frequency", threshold=T)
    often, rare = "a", next(word for word, count in counts().items() if count == 5)
    gap = share(often) - share(rare)
    assert gap > 0.3
    caption = words(1, 1, texts=f"{often} {rare}")
    kept = Counter(reducer.keep(caption, 1, rng(seed))[0] for seed in range(4000))
    expected = (1 - gap) ** 2 / 2  # P(u - v > gap) of two uniform draws
    assert kept[0] / 4000 == pytest.approx(expected, abs=4 * math.sqrt(expected / 4000))


@pytest.mark.parametrize("seed", range(3))
def test_rare_words_stay_more_often_than_frequent_ones(seed: int) -> None:
    reducer = build("frequency", threshold=T)
    kept: Counter[bool] = Counter()
    there: Counter[bool] = Counter()
    middle = statistics.median(share(text) for found in long_captions() for text in found.texts)
    for number, caption in enumerate(long_captions()):
        places = set(reducer.keep(caption, 4, rng(1000 * seed + number)))
        for place, text in enumerate(caption.texts):
            if counts()[text] >= 5:
                there[share(text) < middle] += 1
                kept[share(text) < middle] += place in places
    assert kept[True] / there[True] > kept[False] / there[False] + 0.1


def test_unknown_words_go_first() -> None:
    caption = words(1, 1, 1, texts="a qqq a")
    reducer = build("frequency", threshold=1.0)  # every known word has P = 0
    assert all(reducer.keep(caption, 2, rng(seed)) == [0, 2] for seed in range(20))


def test_counts_come_from_a_file_in_either_case(tmp_path: Path) -> None:
    path = tmp_path / "counts.tsv"
    path.write_text("A\t60\na\t30\ncat\t10\nlynx\t4\n", "utf-8")
    reducer = registry.build("reduction", "frequency", threshold=0.01, counts=str(path))
    assert not reducer.needs_counts
    assert reducer.masked == pytest.approx({"a": 1 - math.sqrt(0.01 / 0.9), "cat": 1 - math.sqrt(0.1)})
    capital = words(1, 1, texts="A CAT")
    small = words(1, 1, texts="a cat")
    assert [reducer.keep(capital, 1, rng(seed)) for seed in range(20)] == [
        reducer.keep(small, 1, rng(seed)) for seed in range(20)
    ]


@pytest.mark.parametrize("text", ["cat 3\n", "cat\tthree\n", "\t3\n", "cat\t-1\n"])
def test_a_line_that_is_no_count_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counts.tsv"
    path.write_text("a\t60\n" + text, "utf-8")
    with pytest.raises(ConfigError, match="line 2: must be a word, a tab and its count"):
        registry.build("reduction", "frequency", counts=str(path))


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    for wrong in (0.0, 1.5, -1.0):
        with pytest.raises(ConfigError, match=r"threshold=.* must be in \(0, 1\]"):
            registry.build("reduction", "frequency", threshold=wrong)
    with pytest.raises(ConfigError, match="min_count=0 must be at least 1"):
        registry.build("reduction", "frequency", min_count=0)
    with pytest.raises(ConfigError, match="cannot be read as UTF-8 text"):
        registry.build("reduction", "frequency", counts=str(tmp_path / "none.tsv"))
    with pytest.raises(ConfigError, match=r"no word was counted 9 times: lower text\.min_count"):
        registry.build("reduction", "frequency", min_count=9).counted({"a": 8})


def test_without_counts_it_says_how_to_get_some() -> None:
    with pytest.raises(ConfigError, match="needs word counts: call counted"):
        registry.build("reduction", "frequency").keep(words(1, 1), 1, rng())
