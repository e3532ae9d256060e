"""Cluster masking (E-CLIP): whole clusters of look-alike patches are dropped."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._noise import uniform
from patchclip.masking._pixels import standardised_patches, unit
from patchclip.masking._schedule import MaskRatio, RatioSchedule


@dataclass(frozen=True)
class ClusterMask:
    """Masks the clusters of patches that resemble a few random anchors.

    patch j is in a cluster if S_aj > threshold for an anchor a; S = (1 - w) cos(pixels) + w cos(tokens)

    Source: Wei et al., "Efficient Vision-Language Pre-training by Cluster Masking", CVPR 2024,
    arXiv 2405.08815, section 3 (anchors, normalised RGB, token features mixed in linearly, minimum ratio).
    Differs: the paper drops what the clusters hold, at least a minimum ratio; here the number kept is exact
    for every image: random members return where the clusters hold more than l - K patches, and random others
    follow where they hold fewer. The paper finds the threshold by bisection on the data so that the mean
    share in clusters is a target; here it is an option, and `matching_threshold` finds it beforehand. The
    released code never calls its search and takes the target ratio (0.5) as threshold, makes K a minimum over
    the batch, lets ties choose the patches that follow, biases attention by +1 between unclustered patches,
    and stops with an error when token features are on.

    Args:
        mask_ratio: share of patches dropped, in [0, 1); the paper's minimum ratio, there 0.3 and 0.5.
        schedule: "draw", "linear" or "cosine", for a pair of ratios.
        anchors: share of patches drawn as anchors, in (0, 1): l - floor(l (1 - anchors)) of them, 0.03 in the
            released recipe (6 of 196). Anchors are in their own cluster.
        threshold: cosine above which a patch joins an anchor's cluster, in (-1, 1).
        features: weight of the tokens at the end of training, in [0, 1]; w = features * progress. 0: pixels
            alone; 1: from pixels to tokens (the released `use_embed`).

    Raises:
        ConfigError: an argument outside its range.
    """

    mask_ratio: MaskRatio = 0.5
    schedule: str = "draw"
    anchors: float = 0.03
    threshold: float = 0.5
    features: float = 0.0
    _ratio: RatioSchedule = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ratio", RatioSchedule(self.mask_ratio, self.schedule))
        if not 0 < self.anchors < 1:
            raise ConfigError(
                f"anchors={self.anchors} must be in (0, 1): the share of patches drawn as anchors"
            )
        if not -1 < self.threshold < 1:
            raise ConfigError(
                f"threshold={self.threshold} must be in (-1, 1): the cosine above which patches cluster"
            )
        if not 0 <= self.features <= 1:
            raise ConfigError(
                f"features={self.features} must be in [0, 1]: the last weight of token similarity"
            )

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
        noise = uniform(b, patches, generator), uniform(b, patches, generator)
        covered = self.clusters(pixels, tokens, progress, noise[0])
        # clusters are dropped first, in random order within; so K is exact whatever they hold
        keep = (covered + noise[1]).topk(self.kept(patches, progress), dim=1, largest=False).indices
        return keep.sort(dim=1).values

    @torch.no_grad()
    def clusters(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        noise: Float[Tensor, "b l"],
    ) -> Bool[Tensor, "b l"]:
        """Patches in the cluster of any anchor; anchors are the patches of largest `noise`."""
        patches = tokens.shape[1]
        count = patches - int(patches * (1 - self.anchors))
        anchors = noise.topk(count, dim=1).indices
        weight = self.features * progress
        with torch.autocast(tokens.device.type, enabled=False):
            similarity = (1 - weight) * cosine_to(standardised_patches(pixels, patches), anchors)
            if weight > 0:
                similarity = similarity + weight * cosine_to(tokens, anchors)
        return (similarity > self.threshold).any(dim=1).scatter(1, anchors, True)


def cosine_to(features: Float[Tensor, "b l d"], chosen: Int64[Tensor, "b a"]) -> Float[Tensor, "b a l"]:
    """Cosine between the chosen patches of an image and all its patches."""
    rows = unit(features)
    picked = rows.gather(1, chosen.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
    return picked @ rows.transpose(1, 2)


def matching_threshold(
    pixels: Float[Tensor, "b 3 h w"],
    patches: int,
    mask_ratio: float,
    generator: torch.Generator,
    anchors: float = 0.03,
) -> float:
    """The threshold at which clusters of pixels hold `mask_ratio` of the patches on average, by bisection.

    Args:
        pixels: sample images, cropped to whole patches and normalised as in training.
        patches: patches of an image.
        mask_ratio: mean share in clusters that is wanted, in (anchors, 1).
        generator: draws the anchors, once.
        anchors: share of patches drawn as anchors.

    Returns:
        The threshold to 2^-12.
    """
    noise = uniform(len(pixels), patches, generator)
    nothing = pixels.new_zeros(len(pixels), patches, 1)
    low, high = -1.0, 1.0
    for _ in range(13):
        middle = (low + high) / 2
        masker = ClusterMask(threshold=middle, anchors=anchors)
        share = float(masker.clusters(pixels, nothing, 0.0, noise).float().mean())
        low, high = (middle, high) if share > mask_ratio else (low, middle)
    return (low + high) / 2
