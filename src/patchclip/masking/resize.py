"""RECLIP, CLIPA: the image is shrunk, so that it has fewer patches."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._edges import patch_grid
from patchclip.masking._schedule import MaskRatio, RatioSchedule


@dataclass(frozen=True)
class ResizeMask:
    """Shows the whole image in fewer pixels: the baseline that every mask has to beat at equal cost.

    (gh', gw') = round(sqrt(1 - ratio) * (gh, gw)): each side is shortened, so that about the share 1 - ratio
    of the patches is left. Pixels and position embeddings are resized with anti-aliasing.

    Source: Li et al., "RECLIP: Resource-efficient CLIP by Training with Small Images", TMLR 2023,
    arXiv 2304.06028; Li et al., "An Inverse Scaling Law for CLIP Training" (CLIPA), NeurIPS 2023,
    arXiv 2305.07017 (image resizing).
    Differs: the papers resize in the data loader and train sine-cosine positions of the small grid; here the
    image is shrunk on the device (bicubic) and the model keeps its learnt positions of the full grid, so that
    evaluation at full size needs no other weights. Rotary positions take the nearest place of the full grid.

    Args:
        mask_ratio: share of patches saved, in [0, 1), or a pair (first, last). Whole rows and columns make it
            coarse: 0.5 leaves 10 x 10 of 14 x 14 patches (0.51), 0.3 leaves 12 x 12 (0.73).
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
        """Patches of the smaller image, for a square grid of `patches`."""
        side = math.isqrt(patches)
        if side * side != patches:
            return patches
        rows, columns = self.resized((side, side), progress)
        return rows * columns

    def resized(self, grid: tuple[int, int], progress: float) -> tuple[int, int]:
        """Rows and columns of patches of the smaller image, at least one.

        Raises:
            ConfigError: as many rows as columns are needed, so that their number alone says what is left.
        """
        rows, columns = grid
        if rows != columns:
            raise ConfigError(
                f"masking.name=resize needs square images, got {rows} x {columns} patches: use another mask"
            )
        side = max(1, round(rows * math.sqrt(1 - self._ratio.at(progress))))
        return side, side

    def select(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        generator: torch.Generator,
    ) -> Int64[Tensor, "b k"]:
        """The patch nearest to each patch of the smaller image: where it lies, not what is seen there."""
        grid = patch_grid(pixels, tokens.shape[1])
        small = self.resized(grid, progress)
        rows, columns = (
            ((torch.arange(n, device=tokens.device) + 0.5) * (full / n)).long().clamp_max(full - 1)
            for n, full in zip(small, grid, strict=True)
        )
        return (rows[:, None] * grid[1] + columns[None, :]).flatten().expand(len(tokens), -1)
