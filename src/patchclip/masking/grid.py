"""CLIPA's grid mask: the same share of every small window of patches is seen."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._edges import patch_grid
from patchclip.masking._noise import uniform
from patchclip.masking._schedule import MaskRatio, RatioSchedule

OUTSIDE = 2.0
"""Stands in windows that reach over the border; above every random number, so it ranks last."""


@dataclass(frozen=True)
class GridMask:
    """Keeps a random patch of each 2 x 2 window (at ratio 0.75), so that no region goes unseen.

    keep = the K patches of lowest (rank + u) / n: rank = random place 0 .. n-1 among the n patches of the
    window, u ~ U(0, 1) once a window

    Source: Li et al., "An Inverse Scaling Law for CLIP Training" (CLIPA), NeurIPS 2023, arXiv 2305.07017,
    section 3.1 (grid masking: one patch of each 2 x 2 window).
    Differs: the paper has the one ratio 0.75 and no released code. Here every ratio is exact: a window of n
    patches keeps floor or ceil of n * t, with one t an image, and windows cut by the border of an odd grid
    keep their share. The default ratio is 0.5, as of the other masks: two patches of each window.

    Args:
        mask_ratio: share of patches dropped, in [0, 1), or a pair (first, last); CLIPA: 0.75.
        schedule: "draw", "linear" or "cosine", for a pair.
        window: rows and columns of patches in a window, >= 1; 1 is a random mask.

    Raises:
        ConfigError: an argument outside its range.
    """

    mask_ratio: MaskRatio = 0.5
    schedule: str = "draw"
    window: int = 2
    _ratio: RatioSchedule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ratio", RatioSchedule(self.mask_ratio, self.schedule))
        if self.window < 1:
            raise ConfigError(f"window={self.window} must be at least 1 patch; CLIPA uses 2")

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
        """Ascending indices of K patches, spread evenly over the windows."""
        b, patches, _ = tokens.shape
        gh, gw = patch_grid(pixels, patches)
        side = self.window
        across, down = -(-gw // side), -(-gh // side)
        noise = uniform(b, patches, generator).unflatten(1, (gh, gw))
        padded = F.pad(noise, (0, across * side - gw, 0, down * side - gh), value=OUTSIDE)
        windows = padded.unflatten(2, (across, side)).unflatten(1, (down, side)).transpose(2, 3).flatten(3)
        rank = windows.argsort(dim=3).argsort(dim=3)  # b down across side*side
        inside = (windows < OUTSIDE).sum(dim=3, keepdim=True)
        shift = uniform(b, down * across, generator).view(b, down, across, 1)
        score = ((rank + shift) / inside).unflatten(3, (side, side)).transpose(2, 3)
        score = score.flatten(3, 4).flatten(1, 2)[:, :gh, :gw].flatten(1)  # b l
        keep = score.topk(self.kept(patches, progress), dim=1, largest=False).indices
        return keep.sort(dim=1).values
