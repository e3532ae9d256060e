"""Frequency reduction: rare words before frequent ones."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from patchclip.contracts import Words
from patchclip.errors import ConfigError
from patchclip.reduction._fill import fill


@dataclass(frozen=True)
class FrequencyReducer:
    """Drops frequent words more often than rare ones, so that the captions' vocabulary becomes more even.

    keep = the words of highest u - P(w), P(w) = max(0, 1 - sqrt(t / f(w))), f = count / sum, u ~ U(0, 1)

    A word with u >= P(w) is one that the formula does not mask; masked words fill what room is left.

    Source: Liang and Larson, "Frequency Is What You Need: Considering Word Frequency When Text Masking
    Benefits Vision-Language Model Pre-training" (CLIPF), WACV 2026, arXiv 2412.16148.
    Differs: counts tokens and fills the room. The released code keeps at most as many tokens as the caption
    has words, cuts the last words, and joins words in their byte alphabet, which garbles accents. Counts can
    be taken from the training captions themselves.

    Args:
        threshold: t, the share of all words up to which a word is never masked, in (0, 1]. The paper's 1e-6
            is for millions of captions; with a few thousand, 1e-4 tells words apart.
        min_count: words counted less often than this are dropped first (P = 1), at least 1; as released.
        counts: file with a word, a tab and its count on each line; None counts the training captions.

    Raises:
        ConfigError: a value is out of its range, or the file cannot be used.
    """

    threshold: float = 1e-6
    min_count: int = 5
    counts: str | None = None
    masked: Mapping[str, float] | None = field(init=False, default=None, repr=False, compare=False)
    """P of each word counted often enough; None before `counted`."""
    reads_words: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold={self.threshold} must be in (0, 1]: a share of all words")
        if self.min_count < 1:
            raise ConfigError(f"min_count={self.min_count} must be at least 1")
        if self.counts is not None:
            object.__setattr__(self, "masked", self._shares(_read(self.counts)))

    @property
    def needs_counts(self) -> bool:
        """Whether words were not counted yet."""
        return self.masked is None

    def counted(self, counts: Mapping[str, int]) -> "FrequencyReducer":
        """The same reducer, with the counts of a corpus by lower-case word."""
        found = FrequencyReducer(self.threshold, self.min_count)
        object.__setattr__(found, "masked", self._shares(counts))
        return found

    def keep(self, words: Words, room: int, rng: random.Random) -> list[int]:
        if self.masked is None:
            raise ConfigError(
                "text.name=frequency needs word counts: call counted(), or name a file with text.counts"
            )
        score = [rng.random() - self.masked.get(text.lower(), 1.0) for text in words.texts]
        return fill(words, sorted(range(len(score)), key=lambda word: -score[word]), room)

    def _shares(self, counts: Mapping[str, int]) -> dict[str, float]:
        often = {word: count for word, count in counts.items() if count >= self.min_count}
        total = sum(often.values())
        if not total:
            raise ConfigError(
                f"no word was counted {self.min_count} times: lower text.min_count, or count more captions"
            )
        return {word: max(0.0, 1 - (self.threshold * total / count) ** 0.5) for word, count in often.items()}


def _read(path: str) -> dict[str, int]:
    """Counts from a file: a word, a tab and a whole number on each line."""
    counts: dict[str, int] = {}
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                word, tab, count = line.rstrip("\r\n").partition("\t")
                if not (word and tab and count.isdecimal()):
                    raise ConfigError(
                        f"{path}, line {number}: must be a word, a tab and its count, got {line!r}"
                    )
                counts[word.lower()] = counts.get(word.lower(), 0) + int(count)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"text.counts={path!r} cannot be read as UTF-8 text: {error}") from error
    return counts
