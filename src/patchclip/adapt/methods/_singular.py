"""The matrices of transformer blocks by their singular values, queries, keys and values each for itself."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.adapt.methods._standing import wide
from patchclip.errors import TowerError

BLOCKS = ("resblocks", "blocks", "layer")
"""What open_clip, timm and transformers call their lists of blocks."""
FUSED = ("in_proj_weight", "qkv.weight")
"""Weights that hold queries, keys and values one below the other."""


@dataclass(frozen=True)
class Singular:
    """A weight W = U diag(s) V^T, of which s learns; fused ones are p matrices, one below the other.

    Args:
        weight: [p o, i], as it is in the model.
        left: U, [p, o, k], float32 or wider, k = min(o, i).
        right: V^T, [p, k, i].
        start: singular values at the start, [p, k], falling in each row.
        values: the ones that learn, a leaf [p, k].
    """

    weight: Tensor
    left: Float[Tensor, "p o k"]
    right: Float[Tensor, "p k i"]
    start: Float[Tensor, "p k"]
    values: Float[Tensor, "p k"]

    def merged(self) -> Tensor:
        """W + U diag(values - start) V^T in the dtype of W: equal to W, bit for bit, until values move.

        The gradient reaches `values` only.
        """
        change = (self.left * (self.values - self.start)[:, None]) @ self.right  # p o i
        return (wide(self.weight) + change.flatten(0, 1)).to(self.weight.dtype)


def singular(weight: Tensor, parts: int = 1) -> Singular:
    """The decomposition of a weight [parts * o, i].

    Raises:
        TowerError: a weight that is not finite.
    """
    matrix = wide(weight.detach())
    if not matrix.isfinite().all():
        raise TowerError("weights must be finite to have singular values: the model is broken, load it anew")
    left, start, right = torch.linalg.svd(matrix.unflatten(0, (parts, -1)), full_matrices=False)
    return Singular(weight.detach(), left, right, start, start.clone().requires_grad_())


def matrices(model: nn.Module) -> dict[str, int]:
    """Name of each weight matrix in the blocks of the model -> matrices in it, 3 where q, k, v are fused.

    These are the weights of every `nn.Linear`, and what `nn.MultiheadAttention` and open_clip's own attention
    hold without one. Embeddings, norms, biases and the projections behind the towers are none of them.
    """
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    bare = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    found = {}
    for name, weight in model.named_parameters():
        inside = set(name.split(".")[:-1]) & set(BLOCKS)
        if inside and weight.ndim == 2 and (name in linear or name.endswith(bare)):
            found[name] = 3 if name.endswith(FUSED) else 1
    return found
