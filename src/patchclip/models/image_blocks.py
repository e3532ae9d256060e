"""Blocks of image towers taken apart: queries, keys and values, and what becomes of what they mix.

They are what `contracts.Block` says, over the modules of open_clip and timm; they hold no weights of their
own.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import TowerError


@dataclass(frozen=True)
class OpenClipBlock:
    """A block of open_clip's own ViT; its fused input projection gives queries, keys and values.

    Blocks that open_clip builds for `qk_norm`, `scale_heads` and the like have a few more parts, see
    `part`; plain ones lack them.
    """

    block: Any
    batch_first: bool = True

    @property
    def heads(self) -> int:
        return int(self.block.attn.num_heads)

    def normed(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        found: Tensor = self.block.ln_1(tokens)
        return found

    def qkv(self, tokens: Float[Tensor, "b t d"]) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.block.attn
        joined = F.linear(self.normed(tokens), attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = joined.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return part(attention, "ln_q")(q), part(attention, "ln_k")(k), v

    def merge(self, values: Float[Tensor, "b m t dm"]) -> Float[Tensor, "b t d"]:
        attention = self.block.attn
        scale = getattr(attention, "head_scale", None)
        if scale is not None:
            values = values * scale
        joined = part(attention, "ln_inner")(values.transpose(1, 2).flatten(2))
        added: Tensor = self.block.ls_1(part(self.block, "ln_attn")(attention.out_proj(joined)))
        return added

    def output(self) -> tuple[Float[Tensor, "m dm d"], Float[Tensor, " d"]]:
        """Weights of each head and the bias of `merge`.

        Raises:
            TowerError: a norm among its parts.
        """
        attention = self.block.attn
        plain(part(attention, "ln_inner"), part(self.block, "ln_attn"))
        weight, bias = scaled(attention.out_proj, self.block.ls_1, self.heads)
        scale = getattr(attention, "head_scale", None)
        return (weight if scale is None else weight * scale), bias

    def mlp(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        added: Tensor = self.block.ls_2(self.block.mlp(self.block.ln_2(tokens)))
        return added

    def __call__(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        if self.batch_first:
            return self.block(tokens)  # type: ignore[no-any-return]
        return self.block(tokens.transpose(0, 1)).transpose(0, 1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class TimmBlock:
    """A pre-norm block of timm's ViT."""

    block: Any

    @property
    def heads(self) -> int:
        return int(self.block.attn.num_heads)

    def normed(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        found: Tensor = self.block.norm1(tokens)
        return found

    def qkv(self, tokens: Float[Tensor, "b t d"]) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.block.attn
        joined = attention.qkv(self.normed(tokens))
        q, k, v = joined.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return attention.q_norm(q), attention.k_norm(k), v

    def merge(self, values: Float[Tensor, "b m t dm"]) -> Float[Tensor, "b t d"]:
        attention = self.block.attn
        joined = attention.norm(values.transpose(1, 2).flatten(2))
        added: Tensor = self.block.ls1(attention.proj(joined))
        return added

    def output(self) -> tuple[Float[Tensor, "m dm d"], Float[Tensor, " d"]]:
        """Weights of each head and the bias of `merge`.

        Raises:
            TowerError: a norm among its parts.
        """
        plain(self.block.attn.norm)
        return scaled(self.block.attn.proj, self.block.ls1, self.heads)

    def mlp(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        added: Tensor = self.block.ls2(self.block.mlp(self.block.norm2(tokens)))
        return added

    def __call__(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.block(tokens)  # type: ignore[no-any-return]


def plain(*parts: Any) -> None:
    """Raises TowerError where one of the parts of `merge` that may be missing is there."""
    if any(each is not _identity and not isinstance(each, nn.Identity) for each in parts):
        raise TowerError(
            "a block norms what its heads put out (scale_attn, scale_attn_inner, scale_attn_norm): it is no "
            "sum over heads; take a tower without these norms"
        )


def scaled(projection: nn.Linear, scale: Any, heads: int) -> tuple[Tensor, Tensor]:
    """Weights [m, dm, d] and bias [d] of a projection of joined heads and its layer scale, if any."""
    weight, gain = projection.weight, getattr(scale, "gamma", None)
    bias = weight.new_zeros(len(weight)) if projection.bias is None else projection.bias
    if gain is not None:
        weight, bias = weight * gain[:, None], bias * gain
    return weight.T.unflatten(0, (heads, -1)), bias


def part(module: Any, name: str) -> Any:
    """A part that only some blocks have; the identity where it is missing."""
    return getattr(module, name, _identity)


def _identity(x: Tensor) -> Tensor:
    return x
