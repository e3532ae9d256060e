"""COCO's run lengths: strings that pycocotools 2.0.11 gave for these masks, and the way back."""

import numpy as np
import pytest

from patchclip.dense.rle import RLE, area, box, counts_of, decode, encode, encode_labels, string_of
from patchclip.errors import DataError

DISC = np.hypot(*np.mgrid[-100:101, -60:61]) < 50
DISC_STRING = (
    "nW2c0b58H8J4L4L4L4L4M2N2M4M2N2N2N2N2N2N2N2O0O2N2N2O0O2O0O2O0O2O0O2O0O2O00000O2O00000O2O00000000000000"
    "0000000000000000000001N1000001N1000001N101N101N101N101N101N2N2N101N2N2N2N2N2N2N2N3L3N2N3L4L4L4L4L6H8H\\R2"
)
KNOWN = {
    "empty": (np.zeros((3, 5), bool), "?", (0, 0, 0, 0)),
    "full": (np.ones((3, 5), bool), "0?", (0, 0, 5, 3)),
    "one": (np.ones((1, 1), bool), "01", (0, 0, 1, 1)),
    "diagonal": (np.eye(4, dtype=bool), "01400000", (0, 0, 4, 4)),
    "stripes": (np.arange(35).reshape(5, 7) % 3 == 1, "11210O1000O10O1000O0", (0, 0, 7, 5)),
    "stairs": (np.tril(np.ones((6, 3), bool)), "061O1O", (0, 0, 3, 6)),
    "disc": (DISC, DISC_STRING, (11, 51, 99, 99)),
    "no pixel": (np.zeros((0, 4), bool), "0", (0, 0, 0, 0)),
}
"""Mask, string and box [x, y, w, h] of `pycocotools.mask.encode` and `toBbox`."""


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_what_cocos_own_tools_write(name: str) -> None:
    mask, string, around = KNOWN[name]
    found = encode(mask)
    assert found == {"size": list(mask.shape), "counts": string}
    assert np.array_equal(decode(found), mask)
    assert (area(found), box(found)) == (int(mask.sum()), around)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (17, 23), (64, 64)])
def test_there_and_back(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(3).random(shape) < share
    found = encode(mask)
    assert np.array_equal(decode(found), mask)
    rows, columns = np.nonzero(mask)
    assert area(found) == len(rows)
    if len(rows):
        x, y, width, height = box(found)
        assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())


def test_all_labels_at_once_are_each_label_alone() -> None:
    labels = np.random.default_rng(0).integers(0, 6, (31, 18))
    labels[labels == 4] = 0
    found = encode_labels(labels)
    assert list(found) == [1, 2, 3, 5]
    assert found == {value: encode(labels == value) for value in found}
    assert encode_labels(labels.astype(np.uint16)) == found
    assert encode_labels(np.zeros((4, 5), np.int64)) == {}
    assert encode_labels(np.zeros((0, 5), np.int64)) == {}


def test_numbers_of_any_size_survive_the_string() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 2 ** rng.integers(1, 31, 5000))
    assert np.array_equal(counts_of(string_of(counts)), counts)
    assert string_of(np.array([0])) == "0"
    assert string_of(np.array([15, 16, 31, 32])) == "?`0o0`0", "differences begin with the fourth"


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ("p1", "characters from '0' to 'o', got 'p1'"),
        ("0é", "characters from '0' to 'o'"),
        ("1 2", "characters from"),
        ("`", "characters from"),
        ("o" * 9 + "0", "at most 7 characters, got 10"),
        ("9", "must fill 3 x 5 pixels, got 9"),
        ("?O", "must fill 3 x 5 pixels"),
        ("", "must fill 3 x 5 pixels, got 0"),
    ],
)
def test_damaged_strings_are_refused(counts: str, text: str) -> None:
    damaged: RLE = {"size": [3, 5], "counts": counts}
    with pytest.raises(DataError, match=text):
        decode(damaged)


def test_a_large_map_of_labels_is_quick() -> None:
    """A million pixels goes through numpy once; a loop over them would take minutes."""
    rows, columns = np.mgrid[:1000, :1000]
    labels = (rows // 125) * 8 + columns // 125
    found = encode_labels(labels)
    assert len(found) == 63
    assert all(area(each) == 15625 for each in found.values())
    assert box(found[63]) == (875, 875, 125, 125)
