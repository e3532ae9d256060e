"""How far one comes without the image: by the length of a caption, or by how usual its words are."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from patchclip.data.sets import Choice

SOLVED = 0.1
"""Level above chance from which questions count as solved without the image, if luck does not explain it."""

_TIE = 1e-9
_START, _END = "<s>", "</s>"
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|,")
_BIGRAM, _UNIGRAM = 0.6, 0.3

Rule = Callable[[str], float]


class BigramPrior:
    """How usual the words of a caption are, and their order.

    Formula: P(w | v) = 0.6 n(v, w) / n(v) + 0.3 n(w) / N + 0.1 / V; V words and one for all unknown ones.
    Source: Jelinek and Mercer, "Interpolated estimation of Markov source parameters from sparse data", 1980.
    Differs: fixed weights. A bigram that follows an unknown word has only the last two terms.

    Args:
        captions: what it learns from.
    """

    def __init__(self, captions: Iterable[str]) -> None:
        self._words: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        for caption in captions:
            words = _words(caption)
            self._words.update(words[1:])
            self._before.update(words[:-1])
            self._pairs.update(pairwise(words))
        self._total = sum(self._words.values())

    def total(self, caption: str) -> float:
        """Log-probability of a caption and its end."""
        return sum(math.log(self._probability(*pair)) for pair in pairwise(_words(caption)))

    def mean(self, caption: str) -> float:
        """Log-probability a word: the length of a caption does not count."""
        return self.total(caption) / (len(_words(caption)) - 1)

    def rarity(self, caption: str) -> float:
        """Less the more usual a caption is: -`mean`."""
        return -self.mean(caption)

    def _probability(self, before: str, word: str) -> float:
        found = (1 - _BIGRAM - _UNIGRAM) / (len(self._words) + 1)
        if self._total:
            found += _UNIGRAM * self._words[word] / self._total
        if self._before[before]:
            found += _BIGRAM * self._pairs[before, word] / self._before[before]
        return found


def blind_levels(choices: Sequence[Choice]) -> dict[str, float | str]:
    """Shares of questions that rules which never see the image get right.

    `shorter`, `longer` count words, `shorter_characters`, `longer_characters` characters; `bigram`,
    `bigram_total` take the mean or total log-probability of a `BigramPrior`, `unusual` the lowest mean. The
    prior learns from the true captions of the other half of the questions (`folds`). A tie is answered by
    a coin: k captions that are tied count 1/k. `best` is the highest, by the rule `best_name`.

    Args:
        choices: questions of one image; with several images a caption alone decides nothing.

    Returns:
        Shares in [0, 1]; empty where a question has several images.
    """
    if not choices or any(len(choice.images) != 1 for choice in choices):
        return {}
    rules: dict[str, Rule] = {
        "shorter": lambda text: -len(text.split()),
        "longer": lambda text: len(text.split()),
        "shorter_characters": lambda text: -len(text),
        "longer_characters": len,
    }
    found = {name: _mean([_share(rule, choice) for choice in choices]) for name, rule in rules.items()}
    found |= _prior_levels(choices)
    best = max(found, key=lambda name: found[name])
    return {**found, "best": found[best], "best_name": best}


def is_solved(best: float, questions: int, captions: int = 2) -> bool:
    """Whether a level is SOLVED and more than two standard errors above chance.

    Formula: best > 1/c + max(0.1, 2 sqrt((1/c)(1 - 1/c) / q)).

    Args:
        best: the level, in [0, 1].
        questions: q of one image, at least 1.
        captions: c of each question.
    """
    coin = 1 / captions
    return best > coin + max(SOLVED, 2 * math.sqrt(coin * (1 - coin) / questions))


def folds(choices: Sequence[Choice]) -> list[int]:
    """Two halves of the questions, 0 and 1, that share no image and no caption, true or false.

    A false caption is often the true one of another question, in the mirrored scene: a prior that has read it
    there takes it for the usual one. Questions that are connected so, through others, too, stay together. The
    largest parts are placed first, each in the half that has fewer questions, so that the same questions give
    the same halves; where all are connected one half is empty.

    Args:
        choices: questions of any number of images.
    """
    parents: dict[object, object] = {}

    def root(each: object) -> object:
        while parents.setdefault(each, each) != each:
            parents[each] = each = parents[parents[each]]
        return each

    for choice in choices:
        for each in (*choice.images, *(tuple(_words(caption)) for caption in choice.captions)):
            parents[root(each)] = root(choice.images[0])
    parts: dict[object, list[int]] = {}
    for number, choice in enumerate(choices):
        parts.setdefault(root(choice.images[0]), []).append(number)
    found, sizes = [0] * len(choices), [0, 0]
    for part in sorted(parts.values(), key=len, reverse=True):
        fold = int(sizes[1] < sizes[0])
        sizes[fold] += len(part)
        for number in part:
            found[number] = fold
    return found


def _prior_levels(choices: Sequence[Choice]) -> dict[str, float]:
    shares: dict[str, list[float]] = {"bigram": [], "bigram_total": [], "unusual": []}
    halves = folds(choices)
    for fold in (0, 1):
        learnt = (choice for choice, half in zip(choices, halves, strict=True) if half != fold)
        prior = BigramPrior(choice.captions[0] for choice in learnt)
        rules: tuple[Rule, ...] = (prior.mean, prior.total, prior.rarity)
        for choice, half in zip(choices, halves, strict=True):
            if half == fold:
                for name, rule in zip(shares, rules, strict=True):
                    shares[name].append(_share(rule, choice))
    return {name: _mean(found) for name, found in shares.items()}


def _share(rule: Rule, choice: Choice) -> float:
    """1 where the rule prefers the right caption, 1/k where it is one of k tied, else 0."""
    scores = [rule(caption) for caption in choice.captions]
    top = max(scores)
    tied = sum(score >= top - _TIE for score in scores)
    return 1 / tied if scores[0] >= top - _TIE else 0.0


def _words(caption: str) -> list[str]:
    return [_START, *_WORD.findall(caption.lower()), _END]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
