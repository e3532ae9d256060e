"""Which patches are seen: the seam of `masking/`."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@runtime_checkable
class Masker(Protocol):
    """Chooses which patches are seen. It returns indices only; gathering happens in models/masked.py."""

    def kept(self, patches: int, progress: float) -> int:
        """Patches kept of `patches` at `progress` in [0, 1]: the same on every rank, whatever the batch."""
        ...

    def select(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        generator: torch.Generator,
    ) -> Int64[Tensor, "b k"]:
        """Indices of the kept patches, ascending, without repeats. All randomness is the generator's."""
        ...


@runtime_checkable
class Guided(Protocol):
    """A masker that ranks patches by what another network sees in the image (see models/guide.py)."""

    score: str
    """What it ranks by: "attention" of the class token, or similarity to the "text"."""

    scorer: Callable[[Float[Tensor, "b 3 h w"], int], Float[Tensor, "b l"]] | None
    """Pixels and the number of patches -> scores; whoever uses the masker sets it before `select`."""


@runtime_checkable
class Resizing(Protocol):
    """A masker that shrinks the image instead of dropping patches."""

    def resized(self, grid: tuple[int, int], progress: float) -> tuple[int, int]:
        """Rows and columns of patches of the smaller image; their product is `kept`."""
        ...
