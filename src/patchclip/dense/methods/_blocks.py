"""How a method runs a tower: the first blocks as they are, the last ones read in another way."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import Block, ImageTower, Patches
from patchclip.errors import ConfigError

Mix = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values of a block -> what its heads put out, [b, m, t, dm] each."""


def run_until(
    tower: ImageTower, pixels: Float[Tensor, "b 3 h w"], last: int
) -> tuple[Float[Tensor, "b t d"], tuple[int, int]]:
    """Tokens in front of the `last` blocks, which are left to the method, and the grid of patches."""
    tokens, grid = tower.embed(pixels)
    for block in tower.blocks[: len(tower.blocks) - last]:
        tokens = block(tokens)
    return tokens, grid


def read_block(block: Block, tokens: Tensor, mix: Mix, residual: bool, mlp: bool) -> Float[Tensor, "b t d"]:
    """A block with `mix` in place of its attention, with or without its residual and its MLP."""
    read = block.merge(mix(*block.qkv(tokens)))
    if residual:
        read = tokens + read
    return read + block.mlp(read) if mlp else read


def read_last(
    tower: ImageTower, pixels: Float[Tensor, "b 3 h w"], mix: Mix, *, residual: bool, mlp: bool
) -> Patches:
    """Patches of a tower whose last block is read by `read_block`."""
    tokens, grid = run_until(tower, pixels, 1)
    read = read_block(tower.blocks[-1], tokens, mix, residual, mlp)
    return Patches(tower.finish(read[:, tower.prefix :]), grid)


def read_beside(
    tower: ImageTower, pixels: Float[Tensor, "b 3 h w"], depth: int, read: Callable[[Block, Tensor], Tensor]
) -> Patches:
    """Patches of a second path beside the last `depth` blocks: path <- path + merge(read(block, x)), no MLP.

    x is the tower's own path, which goes on as it is: every block is read from what the tower itself sees.

    Raises:
        ConfigError: the tower has fewer blocks than `depth`.
    """
    if depth > len(tower.blocks):
        raise ConfigError(
            f"depth={depth} must be at most {len(tower.blocks)}: the blocks of this image tower"
        )
    tokens, grid = run_until(tower, pixels, depth)
    path, blocks = tokens, tower.blocks[-depth:]
    for block in blocks:
        path = path + block.merge(read(block, tokens))
        if block is not blocks[-1]:  # what leaves the last block is the class token's alone
            tokens = block(tokens)
    return Patches(tower.finish(path[:, tower.prefix :]), grid)
