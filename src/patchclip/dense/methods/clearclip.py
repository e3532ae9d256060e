"""ClearCLIP: self-self attention in the last block, without its residual and its MLP."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import ImageTower, Patches
from patchclip.dense.methods._attention import KINDS, correlate
from patchclip.dense.methods._blocks import read_last
from patchclip.errors import ConfigError


@dataclass(frozen=True)
class ClearCLIP:
    """Reads what the attention of the last block puts out, and leaves out the residual, where the noise is.

    f = finish(W_o softmax(q q^T / sqrt(dm)) v)

    Source: Lan et al., "ClearCLIP: Decomposing CLIP Representations for Dense Vision-Language Inference",
    ECCV 2024, arXiv 2407.12442, section 3.
    Differs: from the paper, nothing. The released code resizes position embeddings bicubically without
    antialiasing and with 0.1 added to the scale; here they are resized as open_clip does.

    Args:
        attention: "qq", or for the paper's ablations "kk", "vv" or "qk", the block's own.
        residual: whether the block's input is added.
        mlp: whether the block's MLP follows.

    Raises:
        ConfigError: an unknown `attention`.
    """

    attention: str = "qq"
    residual: bool = False
    mlp: bool = False

    def __post_init__(self) -> None:
        if self.attention not in KINDS:
            raise ConfigError(f"attention={self.attention!r} must be one of {', '.join(KINDS)}")

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""

        def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return correlate(self.attention, q, k, v)

        return read_last(tower, pixels, mix, residual=self.residual, mlp=self.mlp)
