"""FLIP: a random share of the patches is dropped."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.masking._noise import uniform
from patchclip.masking._schedule import MaskRatio, RatioSchedule


@dataclass(frozen=True)
class RandomMask:
    """Keeps a uniformly random subset of the patches of each image.

    keep = the K patches of lowest u, u ~ U(0, 1)^l

    Source: Li et al., "Scaling Language-Image Pre-training via Masking" (FLIP), CVPR 2023,
    arXiv 2212.00794, section 3 (ratio 0.5; 0.75 for larger batches).
    Differs: indices are ascending; open_clip's `PatchDropout` keeps draw order and draws on the CPU.

    Args:
        mask_ratio: share of patches dropped, in [0, 1), or a pair (first, last).
        schedule: "draw", "linear" or "cosine", for a pair.

    Raises:
        ConfigError: an argument outside its range.
    """

    mask_ratio: MaskRatio = 0.5
    schedule: str = "draw"
    _ratio: RatioSchedule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ratio", RatioSchedule(self.mask_ratio, self.schedule))

    def kept(self, patches: int, progress: float) -> int:
        """Patches kept: floor(patches * (1 - ratio)), at least 1."""
        return self._ratio.kept(patches, progress)

    def select(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        generator: torch.Generator,
    ) -> Int64[Tensor, "b k"]:
        """Ascending indices of K patches, every subset equally likely."""
        b, patches, _ = tokens.shape
        noise = uniform(b, patches, generator)
        keep = noise.topk(self.kept(patches, progress), dim=1, largest=False).indices
        return keep.sort(dim=1).values
