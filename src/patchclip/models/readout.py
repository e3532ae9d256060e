"""How an image tower makes one embedding of its last tokens, as a linear map once its norms are known.

A norm is x -> (x - mean) / deviation * gain + bias: given the deviation it is affine, and subtracting the
mean is linear in x. An attention pool is a weighted sum given its weights. So the image embedding is

    z = sum_g sum_j u_gj x_j M_g + bias,    u_gj = weight of token j for pool head g / deviation,

and whatever was added to the tokens x_j adds its own share.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn

from patchclip.contracts import Block
from patchclip.errors import TowerError
from patchclip.models.image_blocks import OpenClipBlock, TimmBlock

FIRST = slice(0, 1)
"""Where the class token stands."""


@dataclass(frozen=True)
class LinearReadout:
    """The pooling of one batch, as `contracts.Readout` says. Letters: g heads of the pool, p tokens pooled.

    Args:
        places: the tokens that are pooled.
        weights: u, of each of them.
        maps: M, with the norm's mean and gain and the projection in them.
        bias: of the norm, the projection and an attention pool with its MLP.
    """

    places: slice
    weights: Float[Tensor, "b g p"]
    maps: Float[Tensor, "g d e"]
    bias: Float[Tensor, "b e"]

    def direct(self, added: Float[Tensor, "#b #p d"]) -> Float[Tensor, "b e"]:
        """What `added` to the tokens at `places` adds to the embedding."""
        added = added.expand(len(self.weights), self.weights.shape[2], -1).to(self.weights)
        with _exactly(added):
            return torch.einsum("bgp,bpd,gde->be", self.weights, added, self.maps)

    def offset(self, block: Block) -> Float[Tensor, "b e"]:
        """What the bias behind the heads of a block adds."""
        return self.direct(_output(block)[1][None, None])

    def attended(
        self, block: Block, tokens: Float[Tensor, "b t d"], by_token: bool = True, by_head: bool = True
    ) -> Float[Tensor, "b #t m e"]:
        """What the heads of a block add that read `tokens`; t or m is 1 where they are not kept apart."""
        q, k, v = block.qkv(tokens)
        attention = (q[:, :, self.places] @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1)
        with _exactly(v):
            seen = torch.einsum("bgp,bmpt->bgmt", self.weights, attention.to(self.weights))
            found, output = self.weights.new_zeros(()), _output(block)[0].to(self.weights)
            for each, maps in zip(seen.unbind(1), self.maps, strict=True):  # one head of the pool at a time
                read, into = each[..., None] * v, output @ maps  # b m t dm, m dm e
                read = read if by_token else read.sum(dim=2, keepdim=True)
                if by_head:
                    found = found + torch.einsum("bmtc,mce->btme", read, into)
                else:
                    joined = read.transpose(1, 2).flatten(2) @ into.flatten(0, 1)
                    found = found + joined[:, :, None]
        return found


@dataclass(frozen=True)
class _Ending:
    """What stands behind a norm: the maps of each pool head, and the rest of the way."""

    maps: Float[Tensor, "g d e"]
    bias: Float[Tensor, "b e"]


def of_open_clip(visual: Any, tokens: Float[Tensor, "b t d"]) -> LinearReadout:
    """Of open_clip's own ViT without attention pool.

    Raises:
        TowerError: tokens that are not pooled.
    """
    if visual.pool_type not in ("tok", "avg"):
        raise _no_sum(f"pool_type={visual.pool_type!r}")
    places = FIRST if visual.pool_type == "tok" else slice(1, None)
    projection = _identity(tokens) if visual.proj is None else visual.proj
    ending = _Ending(projection.to(_wide(tokens))[None], projection.new_zeros(1, projection.shape[1]))
    return _pooled(tokens, places, visual.ln_post, ending, norm_last=visual.final_ln_after_pool)


def of_timm(visual: Any, tokens: Float[Tensor, "b t d"]) -> LinearReadout:
    """Of a timm ViT: a class token, a mean, or an attention pool.

    Raises:
        TowerError: other pooling, two final norms, or a projection that is not linear.
    """
    trunk = visual.trunk
    first = 0 if trunk.pool_include_prefix else int(trunk.num_prefix_tokens)
    if trunk.attn_pool is not None:
        return _attended(visual, tokens, slice(first, None))
    if trunk.global_pool not in ("token", "avg"):
        raise _no_sum(f"global_pool={trunk.global_pool!r}")
    places = FIRST if trunk.global_pool == "token" else slice(first, None)
    last = not isinstance(trunk.fc_norm, nn.Identity)
    if last and not isinstance(trunk.norm, nn.Identity):
        raise _no_sum("norms in front of the pooling and behind it")
    weight, bias = _affine((trunk.head, visual.head), tokens)
    ending = _Ending(weight[None], bias[None])
    return _pooled(tokens, places, trunk.fc_norm if last else trunk.norm, ending, norm_last=last)


def _pooled(tokens: Tensor, places: slice, norm: Any, ending: _Ending, norm_last: bool) -> LinearReadout:
    """The mean of the tokens at `places`, normed before or behind it."""
    read = tokens[:, places].to(_wide(tokens))
    if norm_last:
        deviation = _deviation(norm, read.mean(dim=1, keepdim=True)).expand(-1, read.shape[1])
    else:
        deviation = _deviation(norm, read)
    weights = 1 / (deviation * read.shape[1])
    return _linear(places, weights[:, None], norm, ending)


def _attended(visual: Any, tokens: Tensor, places: slice) -> LinearReadout:
    """timm's attention pool of one latent query: its weights are held, its MLP is a term of its own."""
    trunk, pool = visual.trunk, visual.trunk.attn_pool
    one = isinstance(pool, AttentionPoolLatent) and pool.latent_len == 1 and pool.pos_embed is None
    if not one or not isinstance(trunk.fc_norm, nn.Identity):
        raise _no_sum(f"the pool {type(pool).__name__} with positions, several queries or a norm behind it")
    read = tokens[:, places]
    normed = trunk.norm(read)
    k, v = pool.kv(normed).unflatten(-1, (2, pool.num_heads, -1)).permute(2, 0, 3, 1, 4)
    q = pool.q(pool.latent).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
    q, k = pool.q_norm(q), pool.k_norm(k)
    attention = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1)[:, :, 0]  # b g p
    joined = pool.proj((attention[:, :, None] @ v.to(attention)).flatten(1))
    further = joined.new_zeros(joined.shape) if pool.mlp is None else pool.mlp(pool.norm(joined))
    weight, bias = _affine((trunk.head, visual.head), tokens)
    out, out_bias = _affine((pool.proj,), tokens)
    rows, shift = pool.kv.weight.to(weight), pool.kv.bias
    with _exactly(tokens):
        values = rows[rows.shape[1] :].unflatten(0, (pool.num_heads, -1)).transpose(1, 2)  # g d c
        maps = torch.einsum("gdc,gcf,fe->gde", values, out.unflatten(0, (pool.num_heads, -1)), weight)
        inner = out_bias if shift is None else shift.to(weight)[rows.shape[1] :] @ out + out_bias
        ending = _Ending(maps, (inner + further.to(weight)) @ weight + bias)
    deviation = _deviation(trunk.norm, read.to(weight))
    return _linear(places, attention.to(weight) / deviation[:, None], trunk.norm, ending)


def _linear(places: slice, weights: Tensor, norm: Any, ending: _Ending) -> LinearReadout:
    """Gain, bias and the subtraction of the mean go into the maps."""
    maps, bias = ending.maps, ending.bias
    if not isinstance(norm, nn.Identity):
        gain, shift = (None if each is None else each.to(maps) for each in (norm.weight, norm.bias))
        if shift is not None:
            bias = bias + (shift[:, None] * maps.sum(dim=0)).sum(dim=0)
        maps = maps if gain is None else gain[:, None] * maps
        maps = maps - maps.mean(dim=1, keepdim=True)  # (x - mean x) M = x (M - mean of its rows)
    return LinearReadout(places, weights, maps, bias.to(maps).expand(len(weights), -1))


def _deviation(norm: Any, tokens: Float[Tensor, "b p d"]) -> Float[Tensor, "b p"]:
    """What a norm divides by."""
    if isinstance(norm, nn.Identity):
        return torch.ones_like(tokens[..., 0])
    if not isinstance(norm, nn.LayerNorm) or len(norm.normalized_shape) != 1:
        raise _no_sum(f"the norm {type(norm).__name__}")
    return (tokens.var(dim=-1, correction=0) + norm.eps).sqrt()


def _affine(modules: Iterable[Any], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Weight [d, e] and bias [e] of modules one behind the other."""
    weight = _identity(tokens)
    bias = weight.new_zeros(weight.shape[1])
    for module in modules:
        if isinstance(module, nn.Sequential):
            inner, shift = _affine(module, weight)
        elif isinstance(module, nn.Linear):
            inner, shift = module.weight.T.to(weight), module.bias
        elif isinstance(module, nn.Identity | nn.Dropout):
            continue
        else:
            raise _no_sum(f"the projection {type(module).__name__}")
        with _exactly(tokens):
            bias = bias @ inner if shift is None else bias @ inner + shift.to(weight)
            weight = weight @ inner
    return weight, bias


def _output(block: Block) -> tuple[Tensor, Tensor]:
    if not isinstance(block, OpenClipBlock | TimmBlock):
        raise _no_sum(f"the block {type(block).__name__}")
    return block.output()


def _identity(tokens: Tensor) -> Tensor:
    width = tokens.shape[-1]
    return torch.eye(width, dtype=_wide(tokens), device=tokens.device)


def _exactly(tokens: Tensor) -> torch.autocast:
    """No autocast: sums of many terms are not taken in half precision."""
    return torch.autocast(tokens.device.type, enabled=False)


def _wide(tokens: Tensor) -> torch.dtype:
    """float64 for tokens of float64, else float32."""
    return torch.promote_types(tokens.dtype, torch.float32)


def _no_sum(what: str) -> TowerError:
    return TowerError(
        f"{what}: the image embedding is no weighted sum of tokens, so it cannot be taken apart; use a tower "
        "with a class token, a mean or an attention pool, a LayerNorm and a linear projection"
    )
