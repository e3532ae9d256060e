"""A segmentation set without its background: what is left is told apart, as VOC20 does of VOC21."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from patchclip.data.sets import Masks, Segmented


@dataclass(frozen=True)
class ForegroundMasks:
    """Masks in which no pixel of the background is scored.

    Args:
        masks: with a background.
        background: its class; those behind it move down by one.
    """

    masks: Masks
    background: int

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> Int64[np.ndarray, "h w"]:
        found = self.masks[index]
        return np.where(found == self.background, -1, found - (found > self.background))


def without_background(benchmark: Segmented) -> Segmented:
    """The set without its background, itself where it has none."""
    if (background := benchmark.background) is None:
        return benchmark
    return replace(
        benchmark,
        masks=ForegroundMasks(benchmark.masks, background),
        classnames=benchmark.classnames[:background] + benchmark.classnames[background + 1 :],
        synonyms=benchmark.synonyms[:background] + benchmark.synonyms[background + 1 :],
        background=None,
    )
