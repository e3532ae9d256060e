"""A segmentation set scored image by image: pictures and masks read ahead, one confusion matrix over all."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64
from PIL import Image

from patchclip.contracts import BadSample
from patchclip.data.sets import Segmented
from patchclip.evaluation._confusion import Counts, confusion, counts_of, ious
from patchclip.evaluation._reading import UNREADABLE

AHEAD = 2
"""Groups of images that are read while one is segmented."""

Labeller = Callable[[Sequence[Image.Image]], Iterable[Int64[np.ndarray, "h w"]]]
"""Images -> for every pixel a class in [0, c), or -1 for none."""


@dataclass
class Tally:
    """What is known of the images scored so far.

    Attributes:
        matrix: the confusion matrix over them.
        one_label: the same for one label an image, where that is asked for.
        indices: their numbers in the set.
        counts: hits, predicted and true pixels of each.
        bad: images left out, with the reason.
    """

    matrix: Int64[np.ndarray, "c c1"]
    one_label: Int64[np.ndarray, "c c1"]
    indices: list[int] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    bad: list[BadSample] = field(default_factory=list)

    def iou(self, row: int, background: int | None = None) -> float | None:
        """Mean IoU over the classes in the mask of one image but the background, None where there is none."""
        counts = self.counts[row]
        present = counts.true > 0
        if background is not None:
            present[background] = False
        return float(ious(counts)[present].mean()) if present.any() else None


@dataclass(frozen=True)
class Example:
    """An image that was read, or why it was not."""

    index: int
    image: Image.Image | None
    mask: Int64[np.ndarray, "h w"] | None
    reason: str = ""


def tally(
    benchmark: Segmented,
    guesses: dict[int, int],
    labeller: Labeller,
    size: int,
    threads: int,
    done: Callable[[int], None],
) -> Tally:
    """Scores images of a set.

    Args:
        benchmark: the set.
        guesses: number of each image to score, ascending -> the one class that its embedding is nearest to.
        labeller: gives the classes of some images.
        size: images that are read and labelled together.
        threads: that read.
        done: told after each group how many images are behind it.
    """
    classes = len(benchmark.classnames)
    empty = np.zeros((classes, classes + 1), np.int64)
    found = Tally(empty, empty.copy())
    indices = list(guesses)
    behind = 0
    for group in _groups(benchmark, indices, size, threads):
        behind += len(group)
        found.bad += [
            BadSample(f"{benchmark.name}/{each.index}", each.reason) for each in group if each.reason
        ]
        usable = [
            (each.index, each.image, each.mask) for each in group if each.image and each.mask is not None
        ]
        maps = labeller([image for _, image, _ in usable]) if usable else []
        for (index, _, mask), predicted in zip(usable, maps, strict=True):
            matrix = confusion(mask, predicted, classes)
            found.matrix += matrix
            found.one_label[:, guesses[index]] += matrix.sum(1)
            found.indices.append(index)
            found.counts.append(counts_of(matrix))
        done(behind)
    return found


def read(benchmark: Segmented, index: int) -> Example:
    """An image with its mask; a mask of another size or with a class that the set has not is a bad one."""
    try:
        image, mask = benchmark[index]
    except UNREADABLE as error:
        return Example(index, None, None, str(error) or type(error).__name__)
    classes = len(benchmark.classnames)
    if mask.shape != (image.height, image.width):
        sizes = f"{mask.shape[1]} x {mask.shape[0]} px, its image {image.width} x {image.height}"
        return Example(index, None, None, f"its mask has {sizes}: masks are never resized")
    if mask.size and not (mask.min() >= -1 and mask.max() < classes):
        values = f"{mask.min()} to {mask.max()}"
        return Example(index, None, None, f"its mask holds classes {values}; the set has 0 to {classes - 1}")
    return Example(index, image, mask)


def _groups(benchmark: Segmented, indices: Sequence[int], size: int, threads: int) -> Iterator[list[Example]]:
    """Images in groups; with several threads the next groups are read meanwhile."""
    starts = range(0, len(indices), size)
    if threads == 1:
        for start in starts:
            yield [read(benchmark, index) for index in indices[start : start + size]]
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="patchclip-read") as pool:
        queue: deque[list[Future[Example]]] = deque()
        left = iter(starts)
        try:
            while True:
                while len(queue) <= AHEAD and (first := next(left, None)) is not None:
                    queue.append([pool.submit(read, benchmark, i) for i in indices[first : first + size]])
                if not queue:
                    return
                yield [future.result() for future in queue.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
