"""TRIM: the patches that a text speaks of are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._noise import uniform
from patchclip.masking._rank import ranking
from patchclip.masking._schedule import MaskRatio, RatioSchedule


@dataclass
class TrimMask:
    """Keeps the patches whose features are most similar to a text's.

    keep = the K patches of largest sign * cos(patch, text)

    Source: Song et al., "Less is More: A Simple yet Effective Token Reduction Method for Efficient
    Multi-modal LLMs" (TRIM), 2024, arXiv 2409.10994, section 3.2.
    Differs: K is fixed by `mask_ratio` where the paper keeps outliers (scores above Q3 + 1.5 IQR), since a
    batch needs one shape; no mean token of the dropped patches is appended, and patches are dropped before
    the encoder's blocks, not after them. The released code ranks by softmax of the negative similarity, which
    is `sign=-1`: raw CLIP features of patches are often less alike to the text on the object named.

    Args:
        mask_ratio: share of patches dropped, in [0, 1), or a pair (first, last).
        schedule: "draw", "linear" or "cosine", for a pair.
        sign: 1 keeps what is most similar, -1 what is least, as the released code.

    Raises:
        ConfigError: an argument outside its range, or no scores to rank by.
    """

    mask_ratio: MaskRatio = 0.5
    schedule: str = "draw"
    sign: int = 1
    score: str = field(default="text", init=False)
    scorer: Callable[[Tensor, int], Tensor] | None = field(default=None, init=False, repr=False)
    _ratio: RatioSchedule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ratio = RatioSchedule(self.mask_ratio, self.schedule)
        if self.sign not in (1, -1):
            raise ConfigError(f"sign={self.sign} must be 1 (most similar patches) or -1 (released code)")

    def kept(self, patches: int, progress: float) -> int:
        """Patches kept: floor(patches * (1 - ratio)), at least 1."""
        return self._ratio.kept(patches, progress)

    @torch.no_grad()
    def select(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        generator: torch.Generator,
    ) -> Int64[Tensor, "b k"]:
        """Ascending indices of the K patches of largest score."""
        if self.scorer is None:
            raise ConfigError(
                "trim ranks patches by similarity to a text, but has no scores: set masker.scorer to a "
                "patchclip.models.guide.Guide(model, score='text') that has read the text: guide.read(tokens)"
            )
        b, patches, _ = tokens.shape
        score = self.sign * self.scorer(pixels, patches).float()
        order = ranking(score, uniform(b, patches, generator))
        return order[:, : self.kept(patches, progress)].sort(dim=1).values
