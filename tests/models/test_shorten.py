"""Rows of tokens: special tokens stay, the order stays, the row depends on caption and seed alone."""

import pickle

import open_clip
import pytest
import torch

from patchclip import registry
from patchclip.contracts import Reducer, SeededTokenizer
from patchclip.data.pairs import open_pairs
from patchclip.errors import ConfigError
from patchclip.models.shorten import CaptionTokenizer
from tests.models._tokenizers import END, START, Pieces, Wrapper

SIMPLE = open_clip.SimpleTokenizer()
TEXTS = [
    "a photo of a man riding a blue bicycle on the road",
    "a cat",
    "",
    "an extraordinarily uncharacteristic photographer",
]
SEEDS = [1, 2, 3, 4]


def reducer(name: str) -> Reducer:
    made: Reducer = registry.build("reduction", name)
    return made.counted({"a": 90, "cat": 10}) if name == "frequency" else made


def shipped() -> list[str]:
    source = open_pairs("samples")
    return [text for pair in range(0, len(source), 50) for text in source.texts(pair)]


@pytest.mark.parametrize("length", [3, 8, 16, 77])
def test_truncation_is_the_tokenizers_own_bit_for_bit(length: int) -> None:
    texts = [*TEXTS, *shipped()]
    made = CaptionTokenizer(SIMPLE, reducer("truncate"), length).shortened(texts, range(len(texts)))
    assert torch.equal(made, SIMPLE(texts, context_length=length))


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize("length", [3, 8, 24])
def test_truncation_is_hugging_faces_own_too(start: bool, strip: bool, length: int) -> None:
    tokenizer = Wrapper(Pieces(start=start), strip_sep_token=strip)
    made = CaptionTokenizer(tokenizer, reducer("truncate"), length).shortened(TEXTS, SEEDS)
    assert torch.equal(made, tokenizer(TEXTS, context_length=length))


@pytest.mark.parametrize("name", registry.names("reduction"))
def test_start_and_end_stay_and_the_order_does(name: str) -> None:
    texts = [*TEXTS, *shipped()[::5]]
    rows = CaptionTokenizer(SIMPLE, reducer(name), 8).shortened(texts, range(len(texts)))
    assert rows.shape == (len(texts), 8)
    assert rows.dtype == torch.int64
    for text, row in zip(texts, rows.tolist(), strict=True):
        whole = SIMPLE.encode(text)
        size = min(6, len(whole))
        assert row[0] == SIMPLE.sot_token_id
        assert row[size + 1] == SIMPLE.eot_token_id
        assert row[size + 2 :] == [0] * (6 - size)
        rest = iter(whole)
        assert all(token in rest for token in row[1 : size + 1])  # a subsequence
        if len(whole) <= 6:
            assert row[1 : size + 1] == whole


@pytest.mark.parametrize("name", registry.names("reduction"))
def test_a_row_depends_on_caption_and_seed_alone(name: str) -> None:
    tokenizer = CaptionTokenizer(SIMPLE, reducer(name), 6)
    rows = tokenizer.shortened(TEXTS, SEEDS)
    assert torch.equal(rows, tokenizer.shortened(TEXTS, SEEDS))
    assert torch.equal(rows.flip(0), tokenizer.shortened(TEXTS[::-1], SEEDS[::-1]))
    for row, text, seed in zip(rows, TEXTS, SEEDS, strict=True):
        assert torch.equal(tokenizer.shortened([text], [seed])[0], row)
    again = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301 (as a loader process gets it)
    assert torch.equal(again.shortened(TEXTS, SEEDS), rows)


@pytest.mark.parametrize("name", ["random", "block", "frequency"])
def test_other_seeds_give_other_rows(name: str) -> None:
    tokenizer = CaptionTokenizer(SIMPLE, reducer(name), 6)
    rows = [tokenizer.shortened(TEXTS[:1], [seed]) for seed in range(20)]
    assert any(not torch.equal(row, rows[0]) for row in rows)


def test_syntax_keeps_nouns_with_either_tokenizer() -> None:
    rows = CaptionTokenizer(SIMPLE, reducer("syntax"), 5).shortened(TEXTS[:1], [0])
    assert SIMPLE.decode(rows[0, 1:-1].tolist()).split() == ["photo", "man", "bicycle"]
    made = CaptionTokenizer(Wrapper(), reducer("syntax"), 5).shortened(["a big dog on the red mat"], [0])
    ids = [100 + sum(map(ord, word)) for word in ("big", "dog", "mat")]
    assert made.tolist() == [[START, *ids, END]]


def test_without_a_length_the_tokenizers_context_is_the_room() -> None:
    made = CaptionTokenizer(SIMPLE, reducer("random"))
    assert made.length == 77
    assert isinstance(made, SeededTokenizer)
    assert torch.equal(made.shortened(TEXTS, SEEDS), SIMPLE(TEXTS))  # they all fit


@pytest.mark.parametrize("length", [0, 2, 78])
def test_lengths_without_room_or_beyond_the_context_are_refused(length: int) -> None:
    with pytest.raises(ConfigError, match=rf"data.text_tokens={length} must be in \[3, 77\]"):
        CaptionTokenizer(SIMPLE, reducer("truncate"), length)


def test_reducers_that_read_words_need_a_tokenizer_that_tells_them() -> None:
    slow = Wrapper(Pieces(is_fast=False))
    for name in ("syntax", "frequency"):
        with pytest.raises(ConfigError, match="Wrapper cannot tell them: it is a slow Hugging Face"):
            CaptionTokenizer(slow, reducer(name), 8)
    rows = CaptionTokenizer(slow, reducer("random"), 8).shortened(TEXTS, SEEDS)
    assert rows.shape == (4, 8)
    assert (rows[0, [0, 7]] == torch.tensor([START, END])).all()
