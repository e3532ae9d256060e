"""Captions as rows of token ids, shortened by a reducer."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from patchclip.contracts import Reducer
from patchclip.errors import ConfigError
from patchclip.models.words import Cut, cutter


class CaptionTokenizer:
    """Turns captions into rows of `length` tokens; captions that are longer lose what the reducer drops.

    Start and end token are never dropped, the end token stays behind the last kept one, the order is kept.
    A caption's row depends on the caption and its seed alone, not on the batch. Rows are not padded to the
    model's context: that is what saves time. With `truncate` rows are those of the tokenizer at that length.

    Args:
        tokenizer: open_clip's `SimpleTokenizer`, `HFTokenizer` or `SigLipTokenizer`.
        reducer: what chooses the tokens.
        length: tokens of a row, start and end token among them; None takes the tokenizer's context length.

    Raises:
        ConfigError: no room for a word, more than the context holds, a tokenizer that cannot be taken apart,
            or one that does not tell words apart with a reducer that reads them.
    """

    def __init__(self, tokenizer: Any, reducer: Reducer, length: int | None = None) -> None:
        self._cutter = cutter(tokenizer)
        self._reducer = reducer
        self.length = self._cutter.context_length if length is None else length
        (empty,) = self._cutter.cut([""])
        special = len(empty.before) + len(empty.after)
        if not special < self.length <= self._cutter.context_length:
            raise ConfigError(
                f"data.text_tokens={self.length} must be in [{special + 1}, {self._cutter.context_length}]: "
                "start token, end token and a word, and not more than the model's context length"
            )
        if reducer.reads_words and not self._cutter.tells_words:
            raise ConfigError(
                f"{type(reducer).__name__} reads words, but {type(tokenizer).__name__} cannot tell them: "
                "it is a slow Hugging Face tokenizer; use text.name=truncate, random or block"
            )

    def shortened(self, texts: Sequence[str], seeds: Sequence[int]) -> Int64[Tensor, "b s"]:
        """Rows of token ids, one a caption; a caption's random numbers are those of its seed."""
        rows = torch.full((len(texts), self.length), self._cutter.pad, dtype=torch.int64)
        for row, cut, seed in zip(rows, self._cutter.cut(texts), seeds, strict=True):
            ids = self._cutter.finished(self._kept(cut, seed))
            row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return rows

    def _kept(self, cut: Cut, seed: int) -> list[int]:
        """The ids of one row, without padding."""
        ids = [id for word in cut.words.tokens for id in word]
        room = self.length - len(cut.before) - len(cut.after)
        if len(ids) > room:
            places = self._reducer.keep(cut.words, room, random.Random(seed))
            ids = [ids[place] for place in places]
        return [*cut.before, *ids, *cut.after]
