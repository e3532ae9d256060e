"""Which images of a set stand on the page."""

import numpy as np

from patchclip.evaluation._confusion import Counts
from patchclip.evaluation._segmented_details import chosen
from patchclip.evaluation._tally import Tally


def tally(*hits: int) -> Tally:
    """Images of one class and 10 pixels, so many of them right."""
    empty = np.zeros((1, 2), np.int64)
    counts = [Counts(np.array([each]), np.array([each]), np.array([10])) for each in hits]
    return Tally(empty, empty, list(range(len(hits))), counts)


def test_the_best_the_middle_and_the_worst() -> None:
    assert chosen(tally(2, 9, 0, 5, 5), None) == [("best", 1, 0.9), ("median", 4, 0.5), ("worst", 2, 0.0)]
    assert chosen(tally(2, 9), None) == [("best", 1, 0.9), ("median", 0, 0.2)]


def test_of_images_alike_none_is_called_the_best() -> None:
    found = chosen(tally(*[0] * 9), None)
    assert found == [("one of 9 alike", row, 0.0) for row in (0, 4, 8)]
    assert [each[1:] for each in chosen(tally(10), None)] == [(0, 1.0)]
