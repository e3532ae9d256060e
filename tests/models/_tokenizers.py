"""Hugging Face tokenizers in miniature: the calls that open_clip's wrapper and ours make."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

START, END = 2, 3


class Encoded(dict[str, Any]):
    """What a fast tokenizer returns."""

    def __init__(self, rows: list[list[tuple[int, int, int, int | None]]]) -> None:
        super().__init__(
            input_ids=[[id for id, *_ in row] for row in rows],
            special_tokens_mask=[[int(number is None) for *_, number in row] for row in rows],
            offset_mapping=[[(first, last) for _, first, last, _ in row] for row in rows],
        )
        self.numbers = [[number for *_, number in row] for row in rows]

    def word_ids(self, row: int) -> list[int | None]:
        return self.numbers[row]


@dataclass
class Pieces:
    """Cuts words into pieces of three letters; the id of a piece follows from its letters."""

    start: bool = True
    is_fast: bool = True
    pad_token_id: int | None = 0
    padding_side: str = "right"
    sep_token_id: int = END
    asked: list[bool] = field(default_factory=list)

    def __call__(
        self, texts: list[str], truncation: bool, padding: Any, max_length: int = 0, **options: Any
    ) -> Any:
        self.asked.append(bool(options.get("return_offsets_mapping", False)))
        rows = [self.row(text, max_length if truncation else 0) for text in texts]
        if not truncation:
            return Encoded(rows)
        ids = [[id for id, *_ in row] for row in rows]
        filled = [[*row, *[self.pad_token_id] * (max_length - len(row))] for row in ids]
        return SimpleNamespace(input_ids=torch.tensor(filled))

    def row(self, text: str, most: int) -> list[tuple[int, int, int, int | None]]:
        found: list[tuple[int, int, int, int | None]] = []
        for number, match in enumerate(re.finditer(r"\w+|[^\w\s]", text)):
            for first in range(match.start(), match.end(), 3):
                last = min(first + 3, match.end())
                found.append((100 + sum(map(ord, text[first:last])), first, last, number))
        room = most - 1 - self.start if most else len(found)
        start = [(START, 0, 0, None)] if self.start else []
        return [*start, *found[:room], (END, 0, 0, None)]


@dataclass
class Wrapper:
    """open_clip's HFTokenizer."""

    tokenizer: Any = field(default_factory=Pieces)
    context_length: int = 24
    strip_sep_token: bool = False
    tokenizer_mode: str = ""

    def clean_fn(self, text: str) -> str:
        return " ".join(text.split())

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        length = context_length or self.context_length
        cleaned = [self.clean_fn(text) for text in texts]
        made: Tensor = self.tokenizer(
            cleaned, truncation=True, padding="max_length", max_length=length
        ).input_ids
        return torch.where(made == END, 0, made) if self.strip_sep_token else made
