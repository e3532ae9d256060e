"""The tower as it is: every patch token through the final norm and the projection."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import ImageTower, Patches
from patchclip.dense.methods._blocks import run_until


@dataclass(frozen=True)
class RawPatches:
    """Patch tokens of the last block, as the class token is read: the baseline that every method starts from.

    f = finish(x_L), x_L the patch tokens after all blocks.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML
    2021, arXiv 2103.00020; read at every patch as the baseline of every paper on dense CLIP.
    """

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""
        tokens, grid = run_until(tower, pixels, 0)
        return Patches(tower.finish(tokens[:, tower.prefix :]), grid)
