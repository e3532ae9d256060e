"""FLIP: a random share of the patches is dropped."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.masking._schedule import MaskRatio, check_ratio, kept_patches, ratio_at


@dataclass(frozen=True)
class RandomMask:
    """Keeps a uniformly random subset of the patches of each image.

    keep = the K patches of lowest u, u ~ U(0, 1)^l

    Source: Li et al., "Scaling Language-Image Pre-training via Masking" (FLIP), CVPR 2023,
    arXiv 2212.00794, section 3 (ratio 0.5; 0.75 for larger batches).
    Differs: indices are ascending; open_clip's `PatchDropout` keeps draw order and draws on the CPU.

    Args:
        mask_ratio: share of patches dropped, in [0, 1), or a range (low, high) drawn per step.

    Raises:
        ConfigError: `mask_ratio` outside its range.
    """

    mask_ratio: MaskRatio = 0.5
    _ratios: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ratios", check_ratio(self.mask_ratio))

    def kept(self, patches: int, progress: float) -> int:
        """Patches kept: floor(patches * (1 - ratio)), at least 1."""
        return kept_patches(patches, ratio_at(self._ratios, progress))

    def select(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        generator: torch.Generator,
    ) -> Int64[Tensor, "b k"]:
        """Ascending indices of K patches, every subset equally likely."""
        b, patches, _ = tokens.shape
        noise = torch.rand(b, patches, generator=generator, device=tokens.device)
        keep = noise.topk(self.kept(patches, progress), dim=1, largest=False).indices
        return keep.sort(dim=1).values
