"""Linear maps of the text embeddings as a part of the model: nothing is left to apply beside it."""

import copy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from open_clip import CLIP
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from patchclip.errors import TowerError
from patchclip.models.architectures import Architecture
from patchclip.models.text import text_tower


def fold_text(
    architecture: Architecture, weight: Float[Tensor, "e e"], offset: Float[Tensor, " e"] | None = None
) -> Architecture:
    """A model whose text embeddings are those of another times a matrix.

    encode_text' = encode_text A^t + offset (before normalisation), by P' = P A^t for the last projection P

    The result is of the same architecture and loads in plain open_clip. A tower without a projection gets
    one, which its configuration says.

    Args:
        architecture: the model; it is left as it is.
        weight: A.
        offset: added to every embedding, for towers whose projection has a bias.

    Raises:
        TowerError: a tower that is not known, a matrix of another width, or an offset without a bias.
    """
    model, config = copy.deepcopy(architecture.model), copy.deepcopy(architecture.model_cfg)
    tower = text_tower(model)
    if isinstance(tower, HFTextEncoder):
        _fold_proj(tower, weight, offset, config)
    elif isinstance(tower, CLIP | TextTransformer):
        projection = tower.text_projection
        if isinstance(projection, nn.Linear):
            _fold_linear(projection, weight, offset)
        else:
            _refuse(offset)
            shared = torch.eye(len(weight)) if projection is None else projection.detach()
            folded = _times(shared, weight.T)
            if projection is None:
                config["text_cfg"]["proj_type"] = "linear"
                _check_width(weight, int(config["embed_dim"]))
                tower.text_projection = nn.Parameter(folded.to(tower.positional_embedding))
            else:
                projection.data.copy_(folded)
    else:
        raise TowerError(
            f"{type(tower).__name__} is no text tower of open_clip: load the same weights through open_clip "
            "(patchclip list models)"
        )
    return replace(architecture, model=model, model_cfg=config)


def _fold_proj(tower: Any, weight: Tensor, offset: Tensor | None, config: dict[str, Any]) -> None:
    """Hugging Face towers: none, one or two linear layers, of which the last is folded."""
    layers = [each for each in tower.proj.modules() if isinstance(each, nn.Linear)]
    if layers:
        _fold_linear(layers[-1], weight, offset)
        return
    _refuse(offset)
    _check_width(weight, int(config["embed_dim"]))
    like = next(tower.parameters())
    tower.proj = nn.Linear(len(weight), len(weight), bias=False, device=like.device, dtype=like.dtype)
    tower.proj.weight.data.copy_(weight)
    config["text_cfg"]["hf_proj_type"] = "linear"


def _fold_linear(layer: nn.Linear, weight: Tensor, offset: Tensor | None) -> None:
    folded = _times(weight, layer.weight.detach())
    if layer.bias is None:
        _refuse(offset)
    else:
        moved = _times(layer.bias.detach()[None], weight.T)[0]
        layer.bias.data.copy_(moved if offset is None else moved + offset.to(moved))
    layer.weight.data.copy_(folded)


def _times(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, in float64 where the device has it."""
    if left.shape[1] != right.shape[0]:
        raise TowerError(
            f"a projection of {tuple(left.shape)} and a map of {tuple(right.shape)} do not fit: the map must "
            "be square, of the width of the text embeddings"
        )
    return (left.detach().cpu().double() @ right.detach().cpu().double()).to(right.device)


def _check_width(weight: Tensor, width: int) -> None:
    if tuple(weight.shape) != (width, width):
        raise TowerError(f"a map of {tuple(weight.shape)} must be [{width}, {width}]: the embeddings' width")


def _refuse(offset: Tensor | None) -> None:
    if offset is not None and bool(offset.any()):
        raise TowerError("this text tower's projection has no bias to take an offset: fit a map without one")
