"""NACLIP: key-key attention that favours the neighbourhood of each patch."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import ImageTower, Patches
from patchclip.dense.methods._attention import correlate, neighbourhood
from patchclip.dense.methods._blocks import read_block, run_until
from patchclip.errors import ConfigError


@dataclass(frozen=True)
class NACLIP:
    """Key-key attention in the last block with a Gaussian of the distance added before the softmax.

    f = finish(W_o softmax(k k^T / sqrt(dm) + G) v),  G_ij = exp(-|p_i - p_j|^2 / 2 std^2) for patches i, j,
    and 0 in the rows and columns of the class token.

    Source: Hajimiri, Ben Ayed, Dolz, "Pay Attention to Your Neighbours: Training-Free Open-Vocabulary
    Semantic Segmentation", WACV 2025, arXiv 2404.08181, section 3.
    Differs: from the paper, nothing; G in closed form equals the released convolution of a window with the
    identity. The released code resizes position embeddings bicubically without antialiasing and with 0.1
    added to the scale; here they are resized as open_clip does. PAMR acts on the label map: see refinement.

    Args:
        std: of the Gaussian, in patches, > 0. For patches alone a very large one is plain key-key attention;
            the class token, which has no place, then gets a weight e times smaller.
        reduced: without residual and MLP, as the paper's encoder; False keeps both.

    Raises:
        ConfigError: `std` is not above 0.
    """

    std: float = 5.0
    reduced: bool = True

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ConfigError(f"std={self.std} must be above 0: the width of the neighbourhood in patches")

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""
        tokens, grid = run_until(tower, pixels, 1)
        bias = neighbourhood(grid, tower.prefix, self.std, tokens.device)

        def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return correlate("kk", q, k, v, bias)

        read = read_block(tower.blocks[-1], tokens, mix, not self.reduced, not self.reduced)
        return Patches(tower.finish(read[:, tower.prefix :]), grid)
