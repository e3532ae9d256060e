"""Captions cut into words, for every tokenizer of open_clip."""

from functools import partial
from types import SimpleNamespace

import open_clip
import pytest

from patchclip.data.pairs import open_pairs
from patchclip.errors import ConfigError
from patchclip.models.words import cutter, grouped
from tests.models._tokenizers import END, START, Pieces, Wrapper

ODD = [
    "",
    "  A   Red\tcar!! ",
    "It's 1234 naïve cafés — 日本語 🙂",
    "&amp;amp; &lt;b&gt;",
    "<start_of_text> a <end_of_text>",
    "don't-do_it",
    "x" * 200,
]


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_the_words_of_byte_pairs_put_together_are_the_caption(clean: str) -> None:
    tokenizer = open_clip.SimpleTokenizer(clean=clean)
    source = open_pairs("samples")
    texts = [*ODD, *(text for pair in range(0, len(source), 97) for text in source.texts(pair))]
    for text, cut in zip(texts, cutter(tokenizer).cut(texts), strict=True):
        assert [id for word in cut.words.tokens for id in word] == tokenizer.encode(text)
        assert len(cut.words.texts) == len(cut.words.tokens)
        assert (cut.before, cut.after) == ((tokenizer.sot_token_id,), (tokenizer.eot_token_id,))


def test_byte_pairs_tell_words_and_punctuation_apart() -> None:
    (cut,) = cutter(open_clip.SimpleTokenizer()).cut(["A photographer's cat, 12 times"])
    assert cut.words.texts == ("a", "photographer", "'s", "cat", ",", "1", "2", "times")


def test_a_tokenizer_that_shortens_captions_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="drop reduction_mask"):
        cutter(open_clip.SimpleTokenizer(reduction_mask="random"))


def test_a_tokenizer_without_ids_is_refused() -> None:
    with pytest.raises(ConfigError, match="partial cannot be asked for token ids"):
        cutter(partial(open_clip.tokenize, context_length=8))


def test_hugging_face_words_end_at_spaces_and_punctuation() -> None:
    (cut,) = cutter(Wrapper()).cut(["a  bluebird, dogs"])
    assert cut.words.texts == ("a", "bluebird", ",", "dogs")
    assert [len(word) for word in cut.words.tokens] == [1, 3, 1, 2]
    assert (cut.before, cut.after) == ((START,), (END,))


def test_a_tokenizer_without_a_start_token() -> None:
    whole, empty = cutter(Wrapper(Pieces(start=False))).cut(["a bluebird", ""])
    assert (whole.before, whole.after, whole.words.length) == ((), (END,), 4)
    assert (empty.before + empty.after, empty.words.length) == ((END,), 0)


def test_slow_tokenizers_give_tokens_only() -> None:
    inner = Pieces(is_fast=False)
    words = cutter(Wrapper(inner))
    (cut,) = words.cut(["a bluebird"])
    assert not words.tells_words
    assert cut.words.texts == ()
    assert [len(word) for word in cut.words.tokens] == [1, 1, 1, 1]
    assert inner.asked == [False]


@pytest.mark.parametrize(
    "wrong", [Wrapper(Pieces(padding_side="left")), Wrapper(Pieces(pad_token_id=None))], ids=["left", "none"]
)
def test_other_paddings_are_refused(wrong: Wrapper) -> None:
    with pytest.raises(ConfigError, match="pads on the right, got padding_side="):
        cutter(wrong)


def test_a_class_token_behind_the_padding_is_refused() -> None:
    with pytest.raises(ConfigError, match="tokenizer_mode='clips' puts a class token"):
        cutter(Wrapper(tokenizer_mode="clips"))


def test_without_a_cleaning_of_its_own_siglips_is_used() -> None:
    made = SimpleNamespace(tokenizer=Pieces(start=False), context_length=24)
    (cut,) = cutter(made).cut(["A Dog's  Bone!"])
    assert cut.words.texts == ("a", "dogs", "bone")


def test_marks_of_spaces_belong_to_the_word_behind_them() -> None:
    text = "a red dogs cat"  # as SentencePiece cuts it: "a", " red", " dog", "s", " ", "cat"
    spans = [(0, 1), (1, 5), (5, 9), (9, 10), (10, 11), (11, 14)]
    whole = [(first, last, 0) for first, last in spans]  # it calls all of it one word
    assert grouped(whole, text) == [[0], [1], [2, 3], [4, 5]]
    parts = [(*span, number) for span, number in zip(spans, (0, 1, 2, 2, 3, 3), strict=True)]
    assert grouped(parts, text) == [[0], [1], [2, 3], [4, 5]]
    assert grouped([], text) == []
    assert grouped([(0, 1, 0), (0, 1, 0), (1, 5, 1)], text) == [[0, 1], [2]]  # its mark is put before the "a"
