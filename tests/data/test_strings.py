"""Packed strings behave as the list they were made of."""

import pickle

import numpy as np
import pytest

from patchclip.data._strings import Strings

TEXTS = ["a", "", "caf\u00e9", "\U0001f408 cat", "", "z" * 1000]


def test_packing_keeps_every_string() -> None:
    packed = Strings.of(iter(TEXTS))
    assert list(packed) == TEXTS
    assert (len(packed), packed[-1], packed[-6]) == (6, TEXTS[5], "a")
    assert list(pickle.loads(pickle.dumps(packed))) == TEXTS  # noqa: S301
    assert packed.blob.dtype == np.uint8


def test_joining_keeps_the_order() -> None:
    parts = [TEXTS, [], ["x"], TEXTS[::-1]]
    joined = Strings.concat([Strings.of(part) for part in parts])
    assert list(joined) == [text for part in parts for text in part]
    assert list(Strings.concat([])) == list(Strings.of([])) == []


def test_what_utf8_cannot_carry_is_replaced() -> None:
    assert list(Strings.of(["a\ud800b"])) == ["a?b"]


@pytest.mark.parametrize("index", [6, -7])
def test_an_index_outside_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=rf"index {index} must be in \[0, 6\)"):
        Strings.of(TEXTS)[index]


def test_a_buffer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="the last end must be the length"):
        Strings(np.zeros(3, np.uint8), np.array([4], np.int64))
