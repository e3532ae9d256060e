"""Which attention heads an adaptation changed, by the singular values of their own weights."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.adapt.methods._singular import BLOCKS
from patchclip.adapt.methods._standing import wide
from patchclip.errors import DataError, TowerError


def head_spectra(tower: nn.Module) -> dict[str, Float[Tensor, "2 m k"]]:
    """Singular values of each head's part of the values (first) and of the output, by attention layer.

    Args:
        tower: an image or text tower, or a whole model.

    Raises:
        TowerError: no attention layers were found.
    """
    found = {
        name: torch.stack([spectra(values, heads), spectra(out.T, heads)])
        for name, heads, values, out in attentions(tower)
    }
    if not found:
        raise TowerError(f"{type(tower).__name__} has no attention layers in blocks: use a ViT tower")
    return found


def ranked_heads(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[tuple[str, int, float]]:
    """Attention layer, head and |after - before| / |before|, summed over values and output, largest first.

    Args:
        before: `head_spectra` of the tower before it was adapted.
        after: the same, of the adapted one.

    Raises:
        DataError: spectra of different towers.
    """
    if {name: s.shape for name, s in before.items()} != {name: s.shape for name, s in after.items()}:
        raise DataError("before and after must be of one tower: they have other layers or heads")
    rows: list[tuple[str, int, float]] = []
    for name, old in before.items():
        change = ((after[name] - old).norm(dim=-1) / old.norm(dim=-1).clamp_min(1e-12)).sum(dim=0)
        rows.extend((name, head, value) for head, value in enumerate(change.tolist()))
    return sorted(rows, key=lambda row: -row[2])


def attentions(model: nn.Module) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """Name, number of heads, weight of the values [d, i] and of the output [o, d] of attention in blocks."""
    for name, module in model.named_modules():
        out: Any = getattr(module, "out_proj", None) or getattr(module, "proj", None)
        values = value_weight(module)
        if isinstance(out, nn.Linear) and values is not None and set(name.split(".")) & set(BLOCKS):
            yield name, int(module.num_heads), values, out.weight


def value_weight(module: Any) -> Tensor | None:
    """The weight of the values of an attention layer; None for other modules, and for shared heads."""
    if not hasattr(module, "num_heads") or getattr(module, "num_kv_groups", 1) != 1:
        return None
    for name in ("v_proj_weight", "v_proj"):
        own = getattr(module, name, None)
        if own is not None:
            return own.weight if isinstance(own, nn.Linear) else own
    fused = getattr(module, "in_proj_weight", None)
    if fused is None and isinstance(getattr(module, "qkv", None), nn.Linear):
        fused = module.qkv.weight
    return None if fused is None else fused.chunk(3)[2]


@torch.no_grad()
def spectra(weight: Float[Tensor, "d i"], heads: int) -> Float[Tensor, "m k"]:
    """Singular values of the rows of each head, float32 or wider."""
    return torch.linalg.svdvals(wide(weight.detach()).unflatten(0, (heads, -1)))
