"""The image embedding as an exact sum over layers, heads and the tokens that they read."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import Block, ImageTower, Pooling
from patchclip.errors import ConfigError, DataError, TowerError
from patchclip.geometry.explanations._parts import Parts, joined


@dataclass(frozen=True)
class Decomposition:
    """Takes image embeddings apart into what each layer, head and token adds by itself.

    z = start + sum_l (sum_{i,h} attention[l, i, h] + mlp[l]) + bias

    What is added to the tokens passes the final norm, the pooling and the projection. These are linear once
    the norm's deviation, and the weights of an attention pool, are known, so that the sum is exact.

    Source: Gandelsman, Efros, Steinhardt, "Interpreting CLIP's Image Representation via Text-Based
        Decomposition", ICLR 2024, arXiv 2310.05916, section 3 and its released code.
    Differs: bias is a summand of its own, and each summand has its own mean subtracted; the released code
        spreads the biases and the mean of all equally over the 2 L + 1 layers' terms (and over heads and
        tokens), and divides all by the length of z. Towers with a mean or an attention pool are read, too.

    Args:
        last: layers that are kept apart, from the end; None for all. What comes before them is `start`.
        tokens: keep the tokens apart that heads read; the sum over them otherwise.
        heads: keep the heads apart; the sum over them otherwise.
        chunk: images that are taken apart together, >= 1.

    Raises:
        ConfigError: an argument outside its range, or `last` above the layers of the tower.
        DataError: pixels that are no images, none, or not finite.
        TowerError: a tower whose embedding is no such sum: norms behind the heads (`scale_attn`), a maximum
            as its pool, a projection that is not linear.
    """

    last: int | None = None
    tokens: bool = True
    heads: bool = True
    chunk: int = 16

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ConfigError(f"chunk={self.chunk} must be at least 1: images taken apart together")
        if self.last is not None and self.last < 1:
            raise ConfigError(f"last={self.last} must be at least 1, or None for all layers")

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Parts:
        """The parts of the embeddings of preprocessed images, float32 (float64 for a tower in float64).

        They hold b x layers x tokens x heads x e numbers. Under `torch.no_grad` little else is kept.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3 or not len(pixels) or not bool(pixels.isfinite().all()):
            raise DataError(
                f"pixels of shape {tuple(pixels.shape)} must be [b, 3, h, w], b >= 1, and finite: "
                "preprocessed images"
            )
        if not isinstance(tower, Pooling):
            raise TowerError(f"{type(tower).__name__} does not say how it pools: it needs a readout")
        count = len(tower.blocks)
        if self.last is not None and self.last > count:
            raise ConfigError(f"last={self.last} must be at most {count}: the layers of this image tower")
        return joined([self._parts(tower, tower, each) for each in pixels.split(self.chunk)])

    def _parts(self, tower: ImageTower, pooling: Pooling, pixels: Tensor) -> Parts:
        tokens, grid = tower.embed(pixels)
        first = 0 if self.last is None else len(tower.blocks) - self.last
        for block in tower.blocks[:first]:
            tokens = block(tokens)
        blocks = tower.blocks[first:]
        before, mlps, tokens = _run(blocks, tokens)
        readout = pooling.readout(tokens)
        seen = readout.places
        found = [
            readout.attended(block, each, self.tokens, self.heads)
            for block, each in zip(blocks, before, strict=True)
        ]
        return Parts(
            attention=_stacked(found),
            mlp=_stacked([readout.direct(each[:, seen]) for each in mlps]),
            start=readout.direct(before[0][:, seen]),
            bias=sum((readout.offset(block) for block in blocks), readout.bias),
            first=first,
            prefix=tower.prefix,
            grid=grid,
        )


def _run(blocks: Sequence[Block], tokens: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Tokens in front of each block, what each MLP adds, and the tokens behind the last block."""
    before, mlps = [], []
    for block in blocks:
        before.append(tokens)
        tokens = tokens + block.merge(F.scaled_dot_product_attention(*block.qkv(tokens)))
        mlps.append(block.mlp(tokens))
        tokens = tokens + mlps[-1]
    return before, mlps, tokens


def _stacked(found: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(found), dim=1)
