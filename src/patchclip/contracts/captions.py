"""Captions on their way to the text tower: the seam of `reduction/`."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Words:
    """A caption as its tokenizer cuts it: the token ids of each word, and what the words say.

    `texts` is empty where a tokenizer does not tell words apart; then every token is a word of its own.
    """

    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the caption, start and end token not counted."""
        return sum(map(len, self.tokens))


@runtime_checkable
class Reducer(Protocol):
    """Chooses which tokens of a caption are read in training. Start and end token are not its business."""

    reads_words: bool
    """Whether it looks at what the words say (`Words.texts`), not at the tokens' places alone."""

    def keep(self, words: Words, room: int, rng: random.Random) -> list[int]:
        """Places of the kept tokens in the caption, ascending: min(room, words.length) of them."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A reducer that must know how often each word stands in the training captions."""

    @property
    def needs_counts(self) -> bool:
        """Whether it has no counts yet."""
        ...

    def counted(self, counts: Mapping[str, int]) -> Reducer:
        """The same reducer with the counts, by lower-case word."""
        ...


@runtime_checkable
class SeededTokenizer(Protocol):
    """A tokenizer whose choice of tokens is drawn, one seed a caption (see models/shorten.py)."""

    def shortened(self, texts: Sequence[str], seeds: Sequence[int]) -> Int64[Tensor, "b s"]: ...


@runtime_checkable
class TextCorruptor(Protocol):
    """Makes a caption that is false, or no language, of a true one. A method of `data/corruptors/`."""

    def corrupt(self, text: str, rng: random.Random) -> str | None:
        """Another caption; None where the text has nothing that can be changed this way."""
        ...


@runtime_checkable
class LongContext(Protocol):
    """Lets a text tower read captions longer than its context. A method of `models/context/`."""

    def positions(self, table: Float[Tensor, "s d"]) -> Float[Tensor, "t d"]:
        """Position embeddings of the tower that reads: more rows than the model's, or the same."""
        ...

    def cut(self, length: int, room: int) -> list[tuple[int, int]]:
        """Where windows of a caption start and end.

        Args:
            length: tokens of the caption, start and end token not counted.
            room: tokens that fit into a window, start and end token not counted.

        Returns:
            (start, end) of each window, at least one; each is given a start and an end token of its own.
        """
        ...

    def pool(self, embeddings: Float[Tensor, "w e"], lengths: Int64[Tensor, " w"]) -> Float[Tensor, " e"]:
        """The caption's embedding, of those of its windows (not normalised), each of so many tokens."""
        ...
