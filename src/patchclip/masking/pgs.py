"""CLIP-PGS: patch generation-to-selection."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._edges import DETECTORS, LAST_RESORT, last_resort, patch_grid, protected, salience
from patchclip.masking._noise import uniform
from patchclip.masking._schedule import MaskRatio, RatioSchedule
from patchclip.masking._transport import cosine_to_all, log_sinkhorn, patch_colours


@dataclass(frozen=True)
class PGSMask:
    """Masks what resembles a few random candidates and keeps what edges mark as an object.

    1. candidates: a random 5 % of the patches, none of them protected
    2. protection: patches whose Sobel energy (in pixel space) lies above a quantile of their image
    3. similarity: S = (1 - progress) * cos(colours) + progress * cos(tokens), balanced by optimal transport:
       P = Sinkhorn(exp(S / temperature)), doubly stochastic, so that no patch attracts all mass
    4. growth: the mask takes the patches of largest sum_{i in mask} P_ij, in equal steps, to exactly l - K

    Source: Pei et al., "Seeing What Matters: Empowering CLIP with Patch Generation-to-Selection",
    CVPR 2025, arXiv 2503.17080, section 3 (5 % candidates, Sobel, ratios 0.5 and 0.3-0.5).
    Differs: the paper leaves open the protected share, temperature, iterations and growth steps. Here
    candidates are unprotected patches, image similarity compares patches as 4 x 4 mean colours, similarity
    runs over all patches (each to itself included) less the image's mean patch, and a range of ratios means
    five fixed ones. `contrast` is not in the paper: it keeps more of objects and trained worse (see
    docs/results.md). The released code does not follow the paper: see `pgs_released`.

    Args:
        mask_ratio: share of patches dropped, in [0, 1): 0.5 is PGS-0.5, (0.3, 0.5) is PGS-0.3.
        schedule: "draw" (a ratio a step, as PGS-0.3), "linear" or "cosine", for a pair.
        candidates: share of patches drawn first, in (0, 1).
        protect: share of patches that may be protected, in [0, 1). When fewer than l - K patches are
            unprotected, protected ones follow, the weakest first.
        temperature: of the similarity inside optimal transport, > 0.
        iterations: Sinkhorn updates, >= 1.
        growth_steps: steps in which the mask grows from the candidates to full size, >= 1; 1: not gradual.
        edges: "sobel", or for ablations "scharr", "laplacian" or "none", which protects nothing.
        contrast: weight of a patch's colour distance from its surroundings, beside edges, in what is
            protected, >= 0; 0 is the paper's rule.
        transport: whether optimal transport balances the similarity; without, it is S itself.

    Raises:
        ConfigError: an argument outside its range.
    """

    mask_ratio: MaskRatio = 0.5
    schedule: str = "draw"
    candidates: float = 0.05
    protect: float = 0.3
    temperature: float = 0.1
    iterations: int = 8
    growth_steps: int = 4
    edges: str = "sobel"
    contrast: float = 0.0
    transport: bool = True
    _ratio: RatioSchedule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ratio", RatioSchedule(self.mask_ratio, self.schedule))
        if not 0 < self.candidates < 1:
            raise ConfigError(f"candidates={self.candidates} must be in (0, 1): the share drawn first")
        if not 0 <= self.protect < 1:
            raise ConfigError(f"protect={self.protect} must be in [0, 1): the share that is protected")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature} must be above 0; the default is 0.1")
        if self.iterations < 1 or self.growth_steps < 1:
            raise ConfigError(
                f"iterations={self.iterations} and growth_steps={self.growth_steps} must be at least 1"
            )
        if not self.contrast >= 0:
            raise ConfigError(f"contrast={self.contrast} must be at least 0: its weight beside edges")
        if self.edges not in (*DETECTORS, "none"):
            raise ConfigError(f"edges={self.edges!r} must be one of {', '.join(DETECTORS)} or none")

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
        """Ascending indices of exactly K patches of each image; each image for itself, without host syncs."""
        b, patches, _ = tokens.shape
        drop = patches - self.kept(patches, progress)
        with torch.autocast(tokens.device.type, enabled=False):
            noise = uniform(b, patches, generator), uniform(b, patches, generator)
            order = torch.zeros_like(noise[0])
            if self.edges != "none":
                energy = salience(pixels, patches, self.edges, self.contrast)
                order = last_resort(energy, protected(energy, self.protect))
            seeds = min(drop, max(1, round(self.candidates * patches)))
            mask = largest(noise[0] - order, seeds)
            if drop > seeds:
                plan = self.balanced_similarity(pixels, tokens, progress)
                mask = self.grow(mask, plan, noise[1], order, (seeds, drop))
        return mask.logical_not().to(torch.uint8).topk(patches - drop, dim=1).indices.sort(dim=1).values

    def balanced_similarity(
        self, pixels: Float[Tensor, "b 3 h w"], tokens: Float[Tensor, "b l d"], progress: float
    ) -> Float[Tensor, "b l l"]:
        """P: patch similarity, from colours to tokens as training progresses, doubly stochastic.

        Without transport (1 + S) / (2 l): ranks patches as S does, and is positive and no larger than P.
        """
        grid = patch_grid(pixels, tokens.shape[1])
        similarity = (1 - progress) * cosine_to_all(patch_colours(pixels, grid))
        if progress > 0:
            similarity = similarity + progress * cosine_to_all(tokens)
        if not self.transport:
            return (1 + similarity) / (2 * tokens.shape[1])
        return log_sinkhorn(similarity / self.temperature, self.iterations).exp()

    def grow(
        self,
        mask: Bool[Tensor, "b l"],
        plan: Float[Tensor, "b l l"],
        noise: Float[Tensor, "b l"],
        order: Float[Tensor, "b l"],
        sizes: tuple[int, int],
    ) -> Bool[Tensor, "b l"]:
        """The mask grown from sizes[0] to sizes[1] patches; what it holds it keeps.

        Rows of P sum to 1, so the mean score is |mask| / l; noise of a thousandth of it breaks ties, which
        would otherwise follow the order of the patches (a flat image would lose its upper rows).
        """
        first, last = sizes
        for step in range(1, self.growth_steps + 1):
            size = first + (last - first) * step // self.growth_steps
            score = (mask.unsqueeze(1).float() @ plan).squeeze(1)
            ties = noise * (1e-3 * score.mean(dim=1, keepdim=True))
            mask = largest(score + ties - order + 2 * LAST_RESORT * mask, size)
        return mask


def largest(score: Float[Tensor, "b l"], size: int) -> Bool[Tensor, "b l"]:
    """Boolean mask of the `size` largest scores in each row."""
    chosen = score.topk(size, dim=1).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter_(1, chosen, True)
