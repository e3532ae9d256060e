"""CLIPA's block mask: one block of the image is seen; or MAE's: blocks of it are not."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._blocks import DRAWS, STEPS, random_block, random_blocks
from patchclip.masking._edges import patch_grid
from patchclip.masking._noise import uniform
from patchclip.masking._schedule import MaskRatio, RatioSchedule

BLOCKS = ("kept", "dropped")


@dataclass(frozen=True)
class BlockMask:
    """Cuts the image in large blocks: one block is kept, or blocks are dropped.

    kept: a block of K patches, height = sqrt(K r), width = K / height, at a random place;
    dropped: blocks of s ~ U(smallest, still to drop) patches, until l - K are gone; log r ~ U(log a, -log a)

    Source: Li et al., "An Inverse Scaling Law for CLIP Training" (CLIPA), NeurIPS 2023, arXiv 2305.07017,
    section 3.1 ("block mask: keep a single block and remove other patches", docs/clipa.md of open_clip);
    dropped blocks: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022,
    arXiv 2111.06377, table 1f, by algorithm 1 of Bao et al., "BEiT", ICLR 2022, arXiv 2106.08254
    (16 of 196 patches, a = 0.3).
    Differs: CLIPA released no code for it and gives no aspect ratio: BEiT's serves both. BEiT overshoots its
    ratio; here K is exact: an outer column of a block may be incomplete, and a last block is no larger than
    what is missing.

    Args:
        mask_ratio: share of patches dropped, in [0, 1), or a pair (first, last).
        schedule: "draw", "linear" or "cosine", for a pair.
        blocks: what the blocks are: "kept" (one, as in CLIPA) or "dropped" (several, as in MAE).
        min_aspect: smallest height / width a, in (0, 1]; the largest is 1 / a.
        smallest: smallest dropped block as a share of the patches, in (0, 1]; 0.08 is BEiT's 16 of 196.

    Raises:
        ConfigError: an argument outside its range.
    """

    mask_ratio: MaskRatio = 0.5
    schedule: str = "draw"
    blocks: str = "kept"
    min_aspect: float = 0.3
    smallest: float = 0.08
    _ratio: RatioSchedule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ratio", RatioSchedule(self.mask_ratio, self.schedule))
        if self.blocks not in BLOCKS:
            raise ConfigError(f"blocks={self.blocks!r} must be one of {', '.join(BLOCKS)}")
        if not 0 < self.min_aspect <= 1:
            raise ConfigError(f"min_aspect={self.min_aspect} must be in (0, 1]: height over width; BEiT: 0.3")
        if not 0 < self.smallest <= 1:
            raise ConfigError(f"smallest={self.smallest} must be in (0, 1]: a share of the patches; 0.08")

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
        """Ascending indices of the K patches of one block, or of all that blocks left."""
        b, patches, _ = tokens.shape
        grid, k = patch_grid(pixels, patches), self.kept(patches, progress)
        if self.blocks == "kept":
            draws = uniform(b, DRAWS, generator)
            area = torch.full((b,), k, device=draws.device)
            seen, _ = random_block(area, draws, grid, self.min_aspect)
        else:
            smallest = max(1, round(self.smallest * patches))
            draws = uniform(b, STEPS * DRAWS, generator)
            seen = ~random_blocks(patches - k, draws, grid, smallest, self.min_aspect)
        return seen.to(torch.uint8).topk(k, dim=1).indices.sort(dim=1).values
