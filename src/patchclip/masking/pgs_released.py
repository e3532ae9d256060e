"""CLIP-PGS as its released code works, which is not what its paper describes."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._edges import patch_grid
from patchclip.masking._noise import uniform
from patchclip.masking._pixels import standardised_patches, unit
from patchclip.masking._schedule import MaskRatio, RatioSchedule


@dataclass
class PGSReleasedMask:
    """Masks patches as the code released with CLIP-PGS does, to reproduce and to measure its training.

    flagged_j = any_{candidates a} (S + D)_aj > target_mask_ratio; kept: unflagged first, then random flagged

    Its defects, all reproduced (for the paper's method see `pgs`):
    1. edges: Sobel runs on the patch grid, over the mean of patches standardised to mean 0: rounding error.
    2. selection: noise + 1e6 * edges ranks, so the strongest "edges" are the candidates to mask, not
       protected, and the noise hardly counts: an image has the same candidates in every epoch.
    3. transport: D is S divided 50 times by both its sums at once, though a quarter of its cosines are
       negative; it never converges, has entries of some 10^4, and is added to S, not put in its place.
    4. threshold: target_mask_ratio is compared with a cosine; the share flagged varies from image to image.
    5. fill: where too many are flagged, random flagged patches return; where too few, ties among the
       unflagged decide, and lower rows go.
    6. attention: masked patches that returned stay visible; `last_bias` adds +1 between unflagged tokens,
       repeated over heads in the wrong order: most heads read the bias of another image.

    Source: code released with Pei et al., "Seeing What Matters: Empowering CLIP with Patch
    Generation-to-Selection", CVPR 2025, arXiv 2503.17080 (PatchDropout_PGS of its open_clip/transformer.py).
    Differs: K is floor(l (1 - mask_ratio)): released, it is the minimum of that and of the unflagged counts
    (plus the least sum of edges) over a rank's batch, which in a large batch is that. Image-to-token mixing
    follows progress (released: epoch / 32, beyond 1 after 32 epochs). Ties go by index (released: as the
    device sorts). Kept tokens are in ascending order, sums are float32 under autocast, Sinkhorn always runs
    all its iterations, and grids need not be square.

    Args:
        mask_ratio: share of patches dropped, in [0, 1); released `min_mask_ratio`, 0.5 or 0.3.
        schedule: "draw", "linear" or "cosine", for a pair of ratios; released: a single ratio only.
        force_patch_dropout: share of patches that are candidates, in (0, 1).
        target_mask_ratio: cosine above which a patch is flagged, >= 0.
        use_ed: whether "edges" choose the candidates; without, noise does.
        use_otn: whether D is added.
        sinkhorn_iter: iterations of D, >= 1.

    Raises:
        ConfigError: an argument outside its range.
    """

    mask_ratio: MaskRatio = 0.5
    schedule: str = "draw"
    force_patch_dropout: float = 0.05
    target_mask_ratio: float = 0.5
    use_ed: bool = True
    use_otn: bool = True
    sinkhorn_iter: int = 50
    last_bias: Float[Tensor, "b k k"] | None = field(init=False, default=None, repr=False, compare=False)
    """Bias of the last select: 1 between two unflagged kept patches (each with itself too), else 0.

    The class token counts as unflagged: its row and column are the diagonal of this, its own entry is 1.
    """
    _ratio: RatioSchedule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ratio = RatioSchedule(self.mask_ratio, self.schedule)
        if not 0 < self.force_patch_dropout < 1:
            raise ConfigError(
                f"force_patch_dropout={self.force_patch_dropout} must be in (0, 1): the share of candidates"
            )
        if not self.target_mask_ratio >= 0:
            raise ConfigError(
                f"target_mask_ratio={self.target_mask_ratio} must be at least 0: a cosine threshold"
            )
        if self.sinkhorn_iter < 1:
            raise ConfigError(f"sinkhorn_iter={self.sinkhorn_iter} must be at least 1; released: 50")

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
        """Ascending indices of exactly K patches of each image; sets `last_bias`."""
        b, patches, _ = tokens.shape
        noise = uniform(b, patches, generator), uniform(b, patches, generator)
        with torch.autocast(tokens.device.type, enabled=False):
            flagged = self.flagged(pixels, tokens, progress, noise[0])
        order = (noise[1].exp() * flagged).sort(dim=1, stable=True).indices
        keep = order[:, : self.kept(patches, progress)].sort(dim=1).values
        plain = flagged.logical_not().gather(1, keep)
        self.last_bias = (plain.unsqueeze(1) & plain.unsqueeze(2)).float()
        return keep

    def flagged(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        noise: Float[Tensor, "b l"],
    ) -> Bool[Tensor, "b l"]:
        """Patches that resemble a candidate, or that broken transport says do."""
        patches = tokens.shape[1]
        standard = standardised_patches(pixels, patches)
        if self.use_ed:
            gray = standard.mean(dim=2).unflatten(1, patch_grid(pixels, patches))
            noise = noise + 1e6 * relative_edges(gray).flatten(1)
        count = patches - int(patches * (1 - self.force_patch_dropout))
        candidates = noise.topk(count, dim=1).indices
        similarity = progress * cosine(tokens) + (1 - progress) * cosine(standard)
        if self.use_otn:
            similarity = similarity + divided_by_sums(similarity, self.sinkhorn_iter)
        rows = similarity.gather(1, candidates.unsqueeze(-1).expand(-1, -1, patches))
        return (rows > self.target_mask_ratio).any(dim=1)


def cosine(features: Float[Tensor, "b l d"]) -> Float[Tensor, "b l l"]:
    """Cosine between the patches of one image, positions and common mean included."""
    rows = unit(features)
    return rows @ rows.transpose(1, 2)


def relative_edges(gray: Float[Tensor, "b gh gw"]) -> Float[Tensor, "b gh gw"]:
    """Sobel magnitude on the patch grid, zeros around it, from 0 to (nearly) 1 within each image."""
    padded = F.pad(gray, (1, 1, 1, 1))
    across, down = padded[:, :, 2:] - padded[:, :, :-2], padded[:, 2:] - padded[:, :-2]
    gx = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    gy = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    strength = torch.hypot(gx, gy)
    low, high = strength.amin(dim=(1, 2), keepdim=True), strength.amax(dim=(1, 2), keepdim=True)
    return (strength - low) / (high - low + 1e-6)


def divided_by_sums(matrix: Float[Tensor, "b l l"], iterations: int) -> Float[Tensor, "b l l"]:
    """What is called Sinkhorn: M <- M / (sums over rows + 1e-3) / (sums over columns + 1e-3), sums first."""
    for _ in range(iterations):
        over_rows, over_columns = matrix.sum(dim=1, keepdim=True), matrix.sum(dim=2, keepdim=True)
        matrix = (matrix / (over_rows + 1e-3)).div_(over_columns + 1e-3)
    return matrix
