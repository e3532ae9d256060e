"""Packed captions."""

import pytest

from patchclip.data.layouts.caption_lists import Captions


def test_captions_come_back_as_they_went_in() -> None:
    rows = [("a", "ä b"), (), ("", "c"), ("d",)]
    packed = Captions.of(rows)
    assert list(packed) == rows
    assert [packed[i] for i in (-1, -4)] == [("d",), ("a", "ä b")]
    assert len(Captions.of([])) == 0
    for index in (4, -5):
        with pytest.raises(IndexError, match=r"must be in \[0, 4\)"):
            packed[index]
