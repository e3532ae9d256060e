"""What a stream reads of one pair, and how such samples become a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchclip.contracts import BadSample, SeededTokenizer

Tokenizer = Callable[[list[str]], Tensor] | SeededTokenizer
Skipped = tuple[int, BadSample]


@dataclass(frozen=True)
class Item:
    """One sample of a batch, or none (`pixels` is None) if every replacement was bad too.

    `texts` are the caption and its companions (data/companions.py), None where there is none.
    """

    pixels: Tensor | None
    texts: tuple[str | None, ...]
    key: str
    seed: int
    reading: int
    bad: tuple[Skipped, ...]


class Collate:
    """Makes one batch of samples; it runs in the workers, so that tokenising does too."""

    def __init__(self, tokenizers: Sequence[Tokenizer]) -> None:
        self._tokenizers = tokenizers

    def __call__(self, items: Sequence[Item]) -> tuple[Any, ...]:
        """Pixels, tokens, keys and bad samples; the first two are None if a sample has no replacement."""
        bad = tuple(skipped for item in items for skipped in item.bad)
        pixels = [item.pixels for item in items if item.pixels is not None]
        if len(pixels) < len(items):
            return None, None, (), bad
        tokens = _rows(self._tokenizers[items[0].reading], items)
        return torch.stack(pixels), tokens, tuple(item.key for item in items), bad


def _rows(tokenizer: Tokenizer, items: Sequence[Item]) -> Tensor:
    """Tokens [b,s], or [b,n,s] with companions; a caption and its companions are shortened by one seed.

    A companion is a row of zeros where there is none, and where its tokens are the caption's own: a change
    behind the end of the context, or in words that were left out, is none.
    """
    texts = [text for item in items for text in item.texts if text is not None]
    if isinstance(tokenizer, SeededTokenizer):
        seeds = [item.seed for item in items for text in item.texts if text is not None]
        tokens = tokenizer.shortened(texts, seeds)
    else:
        tokens = tokenizer(texts)
    if len(items[0].texts) == 1:
        return tokens
    there = torch.tensor([[text is not None for text in item.texts] for item in items])
    rows = tokens.new_zeros(*there.shape, tokens.shape[-1])  # b n s
    rows[there] = tokens
    same = (rows[:, 1:] == rows[:, :1]).all(dim=-1, keepdim=True)
    rows[:, 1:].masked_fill_(same, 0)
    return rows
