"""A-CLIP: the patches that a slowly averaged encoder attends to are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._edges import patch_grid
from patchclip.masking._noise import uniform
from patchclip.masking._rank import ranking, ranks
from patchclip.masking._schedule import MaskRatio, RatioSchedule


@dataclass
class AttentiveMask:
    """Keeps the patches that the class token of an averaged encoder attends to most.

    s = mean over layers and heads of softmax(q_cls K^t / sqrt(d)) of the EMA encoder; cells of 2 x 2 patches
    are ranked by their mean s, and the best are kept until K patches are

    Source: Yang et al., "Attentive Mask CLIP" (A-CLIP), ICCV 2023, arXiv 2212.08653, section 3.2 (ratio 0.5,
    momentum 0.996 to 1 by a cosine, half resolution in the efficient variant).
    Differs: exactly K patches are kept: the last cell is broken, its patches of largest s first (released:
    floor(cells / 2) + 1 whole cells, 100 of 196 patches). Scores that tie are ordered by chance. The released
    command line trains without any mask (its `--mask-ratio` defaults to 0).

    Args:
        mask_ratio: share of patches dropped, in [0, 1), or a pair (first, last).
        schedule: "draw", "linear" or "cosine", for a pair.
        score: "attention" of the class token, or similarity of patches to the "text" of the image.
        cells: side in patches of what is kept or dropped together, >= 1; 1 is patch by patch.
        resolution: side of the image that the averaged encoder sees, as a share of the training image's, in
            (0, 1]; 1 is the paper's full variant.
        layers: how many of the last layers' attention is averaged, >= 1; None is all of them.
        momentum: of the averaged encoder at the start of training, in [0, 1); 1 at its end.

    Raises:
        ConfigError: an argument outside its range, or no scores to rank by.
    """

    mask_ratio: MaskRatio = 0.5
    schedule: str = "draw"
    score: str = "attention"
    cells: int = 2
    resolution: float = 0.5
    layers: int | None = None
    momentum: float = 0.996
    scorer: Callable[[Tensor, int], Tensor] | None = field(default=None, init=False, repr=False)
    _ratio: RatioSchedule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ratio = RatioSchedule(self.mask_ratio, self.schedule)
        if self.score not in ("attention", "text"):
            raise ConfigError(f"score={self.score!r} must be attention or text")
        if self.cells < 1:
            raise ConfigError(f"cells={self.cells} must be at least 1: 1 ranks patch by patch, 2 is A-CLIP's")
        if not 0 < self.resolution <= 1:
            raise ConfigError(f"resolution={self.resolution} must be above 0 and at most 1 (full size)")
        if self.layers is not None and self.layers < 1:
            raise ConfigError(f"layers={self.layers} must be at least 1, or null for all layers")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum={self.momentum} must be in [0, 1): the paper starts at 0.996")

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
        """Ascending indices of the K patches of the best cells."""
        if self.scorer is None:
            raise ConfigError(
                "attentive ranks patches by another network's scores, but has none: set masker.scorer to a "
                "patchclip.models.guide.Guide (training does it by itself)"
            )
        b, patches, _ = tokens.shape
        score = self.scorer(pixels, patches).float()
        rows, columns = patch_grid(pixels, patches)
        cell = cell_of_patch(rows, columns, self.cells, score.device)  # l
        means = cell_means(score.unflatten(1, (rows, columns)), self.cells)  # b, cells
        best_cells = ranks(ranking(means, uniform(b, means.shape[1], generator)))
        best_patches = ranks(ranking(score, uniform(b, patches, generator)))
        order = best_cells[:, cell] * patches + best_patches  # cell after cell, in each the best patch first
        keep = order.topk(self.kept(patches, progress), dim=1, largest=False).indices
        return keep.sort(dim=1).values


def cell_of_patch(rows: int, columns: int, side: int, device: torch.device) -> Int64[Tensor, "l"]:
    """The cell each patch lies in, row by row; cells at the lower and right edge may be smaller."""
    across = -(-columns // side)
    down = torch.arange(rows, device=device) // side
    right = torch.arange(columns, device=device) // side
    return (down[:, None] * across + right[None, :]).flatten()


def cell_means(score: Float[Tensor, "b gh gw"], side: int) -> Float[Tensor, "b n"]:
    """Mean score of the patches of each cell."""
    pooled = F.avg_pool2d(score.unsqueeze(1), side, ceil_mode=True, count_include_pad=False)
    return pooled.flatten(1)
