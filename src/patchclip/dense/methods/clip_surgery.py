"""CLIP-Surgery: a second path of value-value attention, and similarities without what all labels share."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import Block, ImageTower, Patches
from patchclip.dense.methods._attention import correlate
from patchclip.dense.methods._blocks import read_beside
from patchclip.errors import ConfigError


@dataclass(frozen=True)
class CLIPSurgery:
    """A second path beside the last blocks, by value-value attention and without their MLPs.

    p <- p + W_o softmax(v v^T / sqrt(dm)) v for each of the last blocks, q, k and v being of the tower's own
    path;  similarity(f, t)_c = sum_e (f_e t_ce - mean_c'(f_e t_c'e)) = f . (t_c - mean_c'(t_c'))

    Source: Li et al., "CLIP Surgery for Better Explainability with Enhancement in Open-Vocabulary Tasks",
    arXiv 2304.05653 (2023): architecture surgery and feature surgery.
    Differs: feature surgery weighs classes by the class token's softmax before it takes the mean; the weights
    are left out, since a similarity here is linear in the patches, so that windows can be averaged. Without
    them it does not change which label is best, only its distance from the others. The class token, which the
    released code keeps from the tower's own path, is no patch and is not given. The released code counts its
    depth as 7, resizes positions bilinearly to square grids only, and changes the model it reads.

    Args:
        depth: last blocks with a second path, >= 1.
        feature_surgery: whether similarities leave out what all labels share; False: cosines.

    Raises:
        ConfigError: `depth` is below 1, or above the blocks of the tower.
    """

    depth: int = 6
    feature_surgery: bool = True

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ConfigError(f"depth={self.depth} must be at least 1: last blocks with a second path")

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""
        return read_beside(tower, pixels, self.depth, _values_by_values)

    def similarity(
        self, features: Float[Tensor, "b l e"], texts: Float[Tensor, "n e"]
    ) -> Float[Tensor, "b l n"]:
        """Score of every patch with every text.

        Args:
            features: of unit length.
            texts: of unit length, all labels at once: their mean is taken away. A single one shares nothing
                with others and is compared as it is.
        """
        if self.feature_surgery and len(texts) > 1:
            texts = texts - texts.mean(dim=0)
        return features @ texts.T


def _values_by_values(block: Block, tokens: Tensor) -> Tensor:
    return correlate("vv", *block.qkv(tokens))
