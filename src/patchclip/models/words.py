"""How the tokenizers of open_clip cut captions into words, and how token ids become a row again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from open_clip.tokenizer import SimpleTokenizer, basic_clean, canonicalize_text

from patchclip.contracts import Words
from patchclip.errors import ConfigError


@dataclass(frozen=True)
class Cut:
    """A caption in words, with the special tokens around it.

    Attributes:
        words: the caption without special tokens.
        before: ids of the special tokens in front of it (start token).
        after: ids of the special tokens behind it (end token).
    """

    words: Words
    before: tuple[int, ...]
    after: tuple[int, ...]


class Cutter(Protocol):
    """One tokenizer seen as a source of words.

    Attributes:
        tells_words: whether it knows where words begin and end.
        pad: the id that fills a row behind the caption.
        context_length: the longest row.
    """

    tells_words: bool
    pad: int
    context_length: int

    def cut(self, texts: Sequence[str]) -> list[Cut]: ...

    def finished(self, ids: list[int]) -> list[int]:
        """The ids of a row as the tokenizer itself would give them."""
        ...


def cutter(tokenizer: Any) -> Cutter:
    """The cutter of an open_clip tokenizer.

    Raises:
        ConfigError: a tokenizer whose rows cannot be taken apart.
    """
    if isinstance(tokenizer, SimpleTokenizer):
        return BytePairs(tokenizer)
    if callable(getattr(tokenizer, "tokenizer", None)):
        return HuggingFace(tokenizer)
    raise ConfigError(
        f"{type(tokenizer).__name__} cannot be asked for token ids, so captions cannot be shortened: "
        "leave data.text_tokens=null and text.name=truncate, or use a model with open_clip's tokenizer"
    )


@dataclass
class BytePairs:
    """open_clip's own byte-pair tokenizer: start token, words, end token, zeros."""

    tokenizer: Any
    tells_words: bool = field(init=False, default=True)
    pad: int = field(init=False, default=0)
    context_length: int = field(init=False)

    def __post_init__(self) -> None:
        self.context_length = int(self.tokenizer.context_length)
        if self.tokenizer.reduction_fn is not None:
            raise ConfigError(
                "the model's tokenizer shortens captions itself: drop reduction_mask from "
                "text_cfg.tokenizer_kwargs, and choose with text.name"
            )

    def cut(self, texts: Sequence[str]) -> list[Cut]:
        start, end = (self.tokenizer.sot_token_id,), (self.tokenizer.eot_token_id,)
        return [Cut(self._words(text), start, end) for text in texts]

    def finished(self, ids: list[int]) -> list[int]:
        return ids

    def _words(self, text: str) -> Words:
        found = tuple(self.tokenizer.pat.findall(self.tokenizer.clean_fn(text)))
        return Words(tuple(map(self._ids, found)), found)

    def _ids(self, word: str) -> tuple[int, ...]:
        letters = "".join(self.tokenizer.byte_encoder[byte] for byte in word.encode("utf-8"))
        return tuple(self.tokenizer.encoder[piece] for piece in self.tokenizer.bpe(letters).split(" "))


@dataclass
class HuggingFace:
    """open_clip's wrappers of Hugging Face tokenizers, those of SigLIP among them.

    A word ends at white space, and where the tokenizer's own pre-tokenisation parts words (punctuation). Slow
    tokenizers do not say which characters a token stands for: with them every token is a word without text.
    """

    tokenizer: Any
    tells_words: bool = field(init=False)
    pad: int = field(init=False)
    context_length: int = field(init=False)
    _clean: Callable[[str], str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        inner = self.tokenizer.tokenizer
        if getattr(self.tokenizer, "tokenizer_mode", ""):
            raise ConfigError(
                f"tokenizer_mode={self.tokenizer.tokenizer_mode!r} puts a class token behind the padding, so "
                "captions cannot be shortened: leave data.text_tokens=null and text.name=truncate"
            )
        if inner.pad_token_id is None or inner.padding_side != "right":
            raise ConfigError(
                f"captions can be shortened with a tokenizer that pads on the right, got padding_side="
                f"{inner.padding_side!r}, pad_token_id={inner.pad_token_id}"
            )
        self.tells_words = bool(getattr(inner, "is_fast", False))
        self.pad = int(inner.pad_token_id)
        self.context_length = int(self.tokenizer.context_length)
        self._clean = getattr(self.tokenizer, "clean_fn", canonical)

    def cut(self, texts: Sequence[str]) -> list[Cut]:
        cleaned = [self._clean(text) for text in texts]
        encoded = self.tokenizer.tokenizer(
            cleaned,
            truncation=False,
            padding=False,
            return_special_tokens_mask=True,
            return_offsets_mapping=self.tells_words,
            verbose=False,
        )
        return [self._cut(encoded, row, text) for row, text in enumerate(cleaned)]

    def finished(self, ids: list[int]) -> list[int]:
        if not getattr(self.tokenizer, "strip_sep_token", False):
            return ids
        end = self.tokenizer.tokenizer.sep_token_id
        return [0 if id == end else id for id in ids]

    def _cut(self, encoded: Any, row: int, text: str) -> Cut:
        ids, special = encoded["input_ids"][row], encoded["special_tokens_mask"][row]
        places = [place for place, mark in enumerate(special) if not mark]
        first = places[0] if places else len(ids)
        before = tuple(ids[:first])
        after = tuple(id for id, mark in zip(ids[first:], special[first:], strict=True) if mark)
        if not self.tells_words:
            return Cut(Words(tuple((ids[place],) for place in places)), before, after)
        offsets, numbers = encoded["offset_mapping"][row], encoded.word_ids(row)
        groups = grouped([(*offsets[place], numbers[place]) for place in places], text)
        spans = [[places[i] for i in group] for group in groups]
        texts = tuple(text[offsets[span[0]][0] : offsets[span[-1]][1]].strip() for span in spans)
        return Cut(Words(tuple(tuple(ids[place] for place in span) for span in spans), texts), before, after)


def canonical(text: str) -> str:
    """The cleaning of open_clip's `SigLipTokenizer`."""
    return str(canonicalize_text(basic_clean(text)))


def grouped(spans: Sequence[tuple[int, int, int | None]], text: str) -> list[list[int]]:
    """Tokens of one word together: numbers of the tokens, word by word.

    A lone mark of a space belongs to the word behind it.

    Args:
        spans: first character, character behind the last, and the tokenizer's own number of the word.
        text: the caption.
    """
    groups: list[list[int]] = []
    for token, (start, _, number) in enumerate(spans):
        spaced = any(text[place : place + 1].isspace() for place in (start - 1, start) if place >= 0)
        said = bool(groups) and bool(text[spans[groups[-1][0]][0] : spans[token - 1][1]].strip())
        if not groups or (said and (spaced or number != spans[token - 1][2])):
            groups.append([])
        groups[-1].append(token)
    return groups
