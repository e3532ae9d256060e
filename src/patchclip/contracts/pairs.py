"""Image-text pairs on their way from a source into a batch."""

from dataclasses import dataclass

from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """One image with its captions, as a data source yields it; a tensor if it was encoded before."""

    image: Image.Image | Tensor
    captions: tuple[str, ...]
    key: str


@dataclass(frozen=True)
class BadSample:
    """One sample that was skipped, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """One training batch: pixels [b,3,h,w] float32, tokens [b,s] int64, keys in order, samples skipped.

    Where captions have companions (data/companions.py), tokens are [b,n,s]: the caption first, then its n - 1
    companions in their order, a row of zeros where there is none.
    Where a frozen tower's tokens are kept (data/features.py), `pixels` are these: [b,l,d] float16.
    """

    pixels: Tensor
    tokens: Tensor
    keys: tuple[str, ...]
    bad: tuple[BadSample, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)
