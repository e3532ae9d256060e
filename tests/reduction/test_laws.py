"""What holds for every reducer, ours and those to come."""

import pickle

import pytest

from patchclip import registry
from patchclip.contracts import Reducer, Words
from tests.reduction._captions import build, cut, rng, without_text, words

NAMES = registry.names("reduction")
CAPTIONS = [
    words(1, 1, 1, 1, 1, 1),
    words(3, 1, 2, 4),
    words(7),
    words(2, 2, 2, texts="a red car"),
    words(1, 5, 1, texts="word word word"),
]


@pytest.fixture(params=NAMES)
def reducer(request: pytest.FixtureRequest) -> Reducer:
    return build(request.param)


def test_the_family_is_there() -> None:
    assert {"truncate", "random", "block", "syntax", "frequency"} <= set(NAMES)


def test_it_is_a_reducer(reducer: Reducer) -> None:
    assert isinstance(reducer, Reducer)
    assert isinstance(reducer.reads_words, bool)


@pytest.mark.parametrize("caption", [*CAPTIONS, Words(())])
@pytest.mark.parametrize("room", range(1, 12))
def test_the_room_is_filled_in_the_captions_order(reducer: Reducer, caption: Words, room: int) -> None:
    for seed in range(5):
        kept = reducer.keep(caption, room, rng(seed))
        assert len(kept) == min(room, caption.length)
        assert kept == sorted(set(kept))
        assert all(0 <= place < caption.length for place in kept)


@pytest.mark.parametrize("room", [1, 2, 6, 14])
def test_shipped_captions_fill_the_room_too(reducer: Reducer, room: int) -> None:
    for seed, caption in enumerate(cut()[::9]):
        kept = reducer.keep(caption, room, rng(seed))
        assert len(kept) == min(room, caption.length)
        assert kept == sorted(set(kept))


def test_a_caption_that_fits_is_kept_whole(reducer: Reducer) -> None:
    for caption in (*CAPTIONS, *cut()[::50]):
        for room in (caption.length, caption.length + 3):
            assert reducer.keep(caption, room, rng(1)) == list(range(caption.length))


def test_the_same_seed_keeps_the_same_tokens(reducer: Reducer) -> None:
    other = pickle.loads(pickle.dumps(reducer))  # noqa: S301 (as a loader process gets it)
    for seed, caption in enumerate(cut()[::23]):
        kept = reducer.keep(caption, 5, rng(seed))
        assert kept == reducer.keep(caption, 5, rng(seed)) == other.keep(caption, 5, rng(seed))


def test_a_reducer_that_does_not_read_words_needs_none(reducer: Reducer) -> None:
    if not reducer.reads_words:
        for caption in CAPTIONS:
            for seed in range(4):
                assert reducer.keep(without_text(caption), 3, rng(seed)) == reducer.keep(
                    caption, 3, rng(seed)
                )
