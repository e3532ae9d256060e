"""COCO's run-length encoding of masks: column by column, counts as a short string."""

from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Int64, Integer

from patchclip.errors import DataError

FIRST, LAST = 48, 111
"""Codes of the characters of a string: 48 ("0") + 6 bits."""

CHUNKS = 7
"""Characters that one count takes at most: 7 x 5 bits hold every 32-bit number."""


BLOCK = 1 << 18
"""Runs whose characters are worked out at a time."""


class RLE(TypedDict):
    """A mask as COCO's tools read it: size is [rows, columns], counts the compressed string."""

    size: list[int]
    counts: str


def encode(mask: Bool[np.ndarray, "h w"]) -> RLE:
    """The mask as runs of pixels outside and inside in turn, down the columns from left to right.

    Source: COCO API, pycocotools `maskApi.c` (rleEncode, rleToString), github.com/cocodataset/cocoapi.

    Args:
        mask: true inside; may be empty, full or without a pixel.
    """
    return encode_labels(mask.astype(np.int64)).get(1) or _rle(np.array([mask.size]), mask.shape)


def encode_labels(label_map: Integer[np.ndarray, "h w"]) -> dict[int, RLE]:
    """The mask of every value above 0 of a label map, in one pass over its pixels.

    Args:
        label_map: not negative; 0 is background.

    Returns:
        value -> mask, for the values that occur, ascending.
    """
    pixels = label_map.ravel(order="F")
    if not len(pixels):
        return {}
    starts = np.concatenate([[0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1])
    stops = np.append(starts[1:], len(pixels))
    values = pixels[starts]
    order = np.argsort(values, kind="stable")
    present, firsts = np.unique(values[order], return_index=True)
    found = {}
    for value, runs in zip(present.tolist(), np.split(order, firsts[1:]), strict=True):
        if value > 0:
            edges = np.stack([starts[runs], stops[runs]], axis=1).ravel()
            counts = np.diff(np.concatenate([[0], edges, [len(pixels)]]))
            found[value] = _rle(counts if counts[-1] else counts[:-1], label_map.shape)
    return found


def decode(rle: RLE) -> Bool[np.ndarray, "h w"]:
    """The mask of an encoding.

    Raises:
        DataError: a string with other characters, or one that does not fill the size.
    """
    rows, columns = rle["size"]
    counts = counts_of(rle["counts"])
    if (counts < 0).any() or counts.sum() != rows * columns:
        raise DataError(f"the runs of an RLE must fill {rows} x {columns} pixels, got {int(counts.sum())}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape((rows, columns), order="F")


def area(rle: RLE) -> int:
    """Pixels inside the mask."""
    return int(counts_of(rle["counts"])[1::2].sum())


def box(rle: RLE) -> tuple[int, int, int, int]:
    """The smallest box around the mask as COCO writes it: x, y, width, height; zeros for an empty mask."""
    rows, _ = rle["size"]
    edges = np.cumsum(counts_of(rle["counts"]))
    starts, stops = edges[: len(edges) // 2 * 2 : 2], edges[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return 0, 0, 0, 0
    left, right = int(starts[0] // rows), int((stops[-1] - 1) // rows)
    wraps = bool((starts // rows != (stops - 1) // rows).any())
    top = 0 if wraps else int((starts % rows).min())
    bottom = rows - 1 if wraps else int(((stops - 1) % rows).max())
    return left, top, right - left + 1, bottom - top + 1


def string_of(counts: Int64[np.ndarray, "r"]) -> str:
    """Counts as characters of 5 bits, lowest first; from the fourth count on, less the one before last.

    The sixth bit says that the number goes on; the highest bit of its last character is its sign.
    """
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]
    return "".join(map(_characters, np.split(numbers, range(BLOCK, len(numbers), BLOCK))))


def counts_of(string: str) -> Int64[np.ndarray, "r"]:
    """The counts of a string, see `string_of`.

    Raises:
        DataError: a character outside of "0" to "o", or a string that ends within a number.
    """
    codes = np.frombuffer(string.encode("utf-8"), dtype=np.uint8).astype(np.int64)
    if not len(codes):
        return codes
    if codes.min() < FIRST or codes.max() > LAST or (codes[-1] - FIRST) & 32:
        raise DataError(f"the counts of an RLE must be characters from '0' to 'o', got {string[:40]!r}")
    codes -= FIRST
    last = (codes & 32) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    if place.max() >= CHUNKS:
        raise DataError(f"a count of an RLE must have at most {CHUNKS} characters, got {place.max() + 1}")
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[last] & 16) != 0
    numbers -= negative * (np.int64(1) << (5 * (place[last] + 1)))
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers


def _characters(numbers: Int64[np.ndarray, "r"]) -> str:
    chunks = numbers[:, None] >> (5 * np.arange(CHUNKS))
    low, rest = chunks & 31, chunks >> 5
    more = np.where(low & 16, rest != -1, rest != 0)
    used = np.concatenate([np.ones((len(numbers), 1), bool), np.logical_and.accumulate(more, axis=1)], axis=1)
    return bytes((low + 32 * more + FIRST)[used[:, :CHUNKS]].astype(np.uint8)).decode("ascii")


def _rle(counts: Int64[np.ndarray, "r"], shape: tuple[int, ...]) -> RLE:
    return {"size": [int(side) for side in shape], "counts": string_of(counts)}
