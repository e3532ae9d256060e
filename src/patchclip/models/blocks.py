"""The repeated blocks of both towers, compiled one by one."""

import torch
from torch import nn

from patchclip.errors import TowerError

LENGTHS = 64
"""Graphs of one kind of block before torch runs it uncompiled: lengths, with or without grad."""


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of an open_clip model, image tower first.

    Every module list that is named `resblocks` (open_clip's own towers), `blocks` (timm) or `layer` (Hugging
    Face encoders).
    """
    names = ("resblocks", "blocks", "layer")
    lists = [m for name, m in model.named_modules() if name.split(".")[-1] in names]
    return [block for found in lists if isinstance(found, nn.ModuleList | nn.Sequential) for block in found]


def compile_blocks(model: nn.Module, backend: str = "inductor") -> int:
    """Compiles each block in place; parameters, their names and checkpoints stay as they are.

    Blocks of a kind share one graph a sequence length, so compiling costs one block and not twelve, and the
    choice of patches between embedding and blocks stays outside of every graph. Lengths are few because masks
    keep a fixed number of patches.

    Args:
        model: an open_clip model.
        backend: of torch.compile.

    Returns:
        The number of blocks.

    Raises:
        TowerError: no blocks were found.
    """
    blocks = find_blocks(model)
    if not blocks:
        raise TowerError(
            f"{type(model).__name__} has no transformer blocks to compile: set train.compile=false"
        )
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, LENGTHS)
    for block in blocks:
        block.compile(backend=backend, dynamic=False)
    return len(blocks)
