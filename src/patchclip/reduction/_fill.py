"""Fills the room of a caption with whole words, best first."""

from collections.abc import Iterable

from patchclip.contracts import Words


def fill(words: Words, order: Iterable[int], room: int) -> list[int]:
    """Places of tokens: whole words in the given order while they fit, then the start of one that did not.

    A word longer than what is left is passed over and shorter ones behind it may still come. What remains at
    the end is filled with the first tokens of the best word passed over, so that the room is always used.

    Args:
        words: the caption.
        order: numbers of the words, the most wanted first, each once.
        room: tokens that may be kept, at least 0.

    Returns:
        min(room, words.length) places, ascending.
    """
    spans = _spans(words)
    kept: list[int] = []
    passed: list[range] = []
    for number in order:
        if len(spans[number]) <= room - len(kept):
            kept += spans[number]
        else:
            passed.append(spans[number])
    if passed:
        kept += passed[0][: room - len(kept)]
    return sorted(kept)


def _spans(words: Words) -> list[range]:
    """The places of each word's tokens."""
    spans, start = [], 0
    for tokens in words.tokens:
        spans.append(range(start, start + len(tokens)))
        start += len(tokens)
    return spans
