"""ResCLIP: attention of the middle blocks, blended into a correlation of the last one."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import ImageTower, Patches
from patchclip.dense.methods._attention import attend, correlate, neighbourhood
from patchclip.dense.methods._blocks import read_block
from patchclip.errors import ConfigError

BASES = ("naclip", "clearclip", "sclip")


@dataclass(frozen=True)
class ResCLIP:
    """Residual cross-correlation: weights of the last block, with those of middle blocks mixed in.

    A = tau ((1 - weight) A_base + weight mean_i softmax(q_i k_i^T / sqrt(dm))), i from `first` to `last`;
    f = finish(W_o A v), A_base and the rest of the block as `base` has them. A is never made: each of its
    summands mixes the values of the last block for itself.

    Source: Yang et al., "ResCLIP: Residual Attention for Training-free Dense Vision-language Inference",
    CVPR 2025, arXiv 2411.15851, section 3 (residual cross-correlation self-attention); blocks 6 to 9 and
    tau = 2 are the released code's.
    Differs: only this half of the paper. Its semantic feedback refinement, which needs PAMR, label maps and
    three more numbers that are tuned for each data set, stays out. The released code tunes `weight` on each
    test set: 0.6 on VOC20, 0.4 on Context, 0.3 on VOC21 and ADE20K, 0.2 on Cityscapes; the default is one of
    them for all.

    Args:
        base: what is blended: "naclip" (std 5), "clearclip" or "sclip".
        weight: of the middle blocks, in [0, 1]; 0 leaves tau times the base.
        tau: factor of the blend, > 0.
        first: first block whose attention is used, counted from 1.
        last: last block whose attention is used, before the tower's last one.
        std: of NACLIP's Gaussian, in patches, > 0.

    Raises:
        ConfigError: an argument outside its range, or a tower with no block behind `last`.
    """

    base: str = "naclip"
    weight: float = 0.4
    tau: float = 2.0
    first: int = 6
    last: int = 9
    std: float = 5.0

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise ConfigError(f"base={self.base!r} must be one of {', '.join(BASES)}")
        if not 0 <= self.weight <= 1 or not self.tau > 0 or not self.std > 0:
            raise ConfigError(
                f"weight={self.weight} must be in [0, 1], tau={self.tau} and std={self.std} above 0"
            )
        if not 1 <= self.first <= self.last:
            raise ConfigError(
                f"first={self.first} and last={self.last} must be blocks, counted from 1, in order"
            )

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""
        if self.last >= len(tower.blocks):
            raise ConfigError(
                f"last={self.last} must be below {len(tower.blocks)}, the blocks of this image tower: "
                "name middle blocks of it by first and last"
            )
        tokens, grid = tower.embed(pixels)
        middle = []  # queries and keys
        for place, block in enumerate(tower.blocks[:-1], start=1):
            if self.first <= place <= self.last:
                middle.append(block.qkv(tokens)[:2])
            tokens = block(tokens)
        bias = neighbourhood(grid, tower.prefix, self.std, tokens.device) if self.base == "naclip" else None

        def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            base = self.correlation(q, k, v, bias)
            across = torch.stack([attend(queries, keys, v) for queries, keys in middle]).mean(dim=0)
            return self.tau * ((1 - self.weight) * base + self.weight * across)

        whole = self.base == "sclip"  # keeps residual and MLP
        read = read_block(tower.blocks[-1], tokens, mix, whole, whole)
        return Patches(tower.finish(read[:, tower.prefix :]), grid)

    def correlation(
        self, q: Float[Tensor, "b m t dm"], k: Tensor, v: Tensor, bias: Tensor | None
    ) -> Float[Tensor, "b m t dm"]:
        """Values mixed by the base's own weights."""
        if self.base == "naclip":
            return correlate("kk", q, k, v, bias)
        mixed = correlate("qq", q, k, v)
        return mixed + correlate("kk", q, k, v) if self.base == "sclip" else mixed
