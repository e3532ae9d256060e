"""SCLIP: the last block attends by query-query and key-key correlation."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import ImageTower, Patches
from patchclip.dense.methods._attention import correlate
from patchclip.dense.methods._blocks import read_last


@dataclass(frozen=True)
class SCLIP:
    """Correlative self-attention in the last block: patches attend to what is like them, and to themselves.

    A = softmax(q q^T / sqrt(dm)) + softmax(k k^T / sqrt(dm)), so that rows sum to 2;  o = W_o A v;
    f = finish(z + MLP(z)), z = x + o

    Source: Wang, Mei, Yuille, "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024, arXiv 2312.01597, section 3.
    Differs: from the paper, nothing. The released code resizes position embeddings bicubically without
    antialiasing and with 0.1 added to the scale; here they are resized as open_clip does. Its threshold on
    the area of a class and its PAMR act on the label map and stay out.
    """

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""
        return read_last(tower, pixels, _both, residual=True, mlp=True)


def _both(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return correlate("qq", q, k, v) + correlate("kk", q, k, v)
