"""MaskCLIP: the values of the last block, without its attention."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import ImageTower, Patches
from patchclip.dense.methods._blocks import read_last


@dataclass(frozen=True)
class MaskCLIP:
    """Reads each patch from its own value in the last block: attention is the identity.

    o = W_o v;  f = finish(z + MLP(z)), z = x + o

    Source: Zhou, Loy, Dai, "Extract Free Dense Labels from CLIP", ECCV 2022, arXiv 2112.01071, section 3.2.
    Differs: the paper states the value path for CLIP's attention pooling of a ResNet; for a ViT its released
    code sends the values through residual and MLP too, which is the default here. Later papers report as
    MaskCLIP the path without one or both: ClearCLIP's rerun has neither (`residual=False, mlp=False`). Key
    smoothing and prompt denoising, which act on the label map, stay out, and so does MaskCLIP+, which trains.

    Args:
        residual: whether the block's input is added.
        mlp: whether the block's MLP follows.
    """

    residual: bool = True
    mlp: bool = True

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""
        return read_last(tower, pixels, _values, residual=self.residual, mlp=self.mlp)


def _values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v
