"""Dense CLIP: every patch is seen."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class NoMask:
    """Keeps every patch: the dense CLIP that each other strategy is measured against.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
    ICML 2021, arXiv 2103.00020.
    """

    def kept(self, patches: int, progress: float) -> int:
        """All `patches`."""
        return patches

    def select(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        generator: torch.Generator,
    ) -> Int64[Tensor, "b k"]:
        """The indices 0 .. l-1 for every image."""
        return torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[0], -1)
