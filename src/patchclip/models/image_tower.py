"""An image tower taken apart: its embedding, its blocks with queries, keys and values, its end.

What `dense/methods` stand on. Nothing here changes the model: the tower's own forward is untouched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Attention, PatchEmbed, resample_abs_pos_embed
from timm.models.vision_transformer import Block as PlainBlock
from torch import Tensor, nn

from patchclip.contracts import Block, PatchHead
from patchclip.errors import ConfigError, TowerError
from patchclip.models import readout
from patchclip.models.image_blocks import OpenClipBlock, TimmBlock


@dataclass(frozen=True)
class OpenClipTower:
    """open_clip's own ViT, as `contracts.ImageTower` sees it. Build it with `image_tower`.

    Args:
        visual: `model.visual`.
        head: trained by `patchclip align`, or None.
        step: pixels between patches; None for the size of a patch. A smaller one makes patches overlap.
    """

    visual: Any
    head: PatchHead | None = None
    step: int | None = None
    blocks: Sequence[Block] = field(init=False)
    prefix: int = 1

    def __post_init__(self) -> None:
        transformer = self.visual.transformer
        blocks = [OpenClipBlock(block, transformer.batch_first) for block in transformer.resblocks]
        object.__setattr__(self, "blocks", tuple(blocks))

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self.visual.conv1.kernel_size[0])

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return normalisation_of(self.visual)

    def embed(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b t d"], tuple[int, int]]:
        visual = self.visual
        patches = cut(visual.conv1, pixels, self.step)
        grid = (patches.shape[2], patches.shape[3])
        positions = positions_of(visual.positional_embedding[None], visual.grid_size, grid, 1)
        first = visual.class_embedding.to(patches.dtype).expand(len(pixels), 1, -1)
        tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)
        return visual.ln_pre(tokens + positions.to(tokens.dtype)), grid

    def norm(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        normed: Tensor = self.visual.ln_post(tokens)
        return normed

    def finish(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l e"]:
        normed = self.norm(tokens)  # pooled alone, a token is itself, whatever is pooled and when
        return normed if self.visual.proj is None else normed @ self.visual.proj

    def readout(self, tokens: Float[Tensor, "b t d"]) -> readout.LinearReadout:
        """How the tokens behind the last block are pooled, see `contracts.Pooling`."""
        return readout.of_open_clip(self.visual, tokens)


@dataclass(frozen=True)
class TimmTower:
    """A timm ViT inside open_clip, as `contracts.ImageTower` sees it. Build it with `image_tower`.

    Args:
        visual: `model.visual`.
        head: trained by `patchclip align`, or None.
        step: pixels between patches; None for the size of a patch.
    """

    visual: Any
    head: PatchHead | None = None
    step: int | None = None
    blocks: Sequence[Block] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(TimmBlock(block) for block in self.visual.trunk.blocks))

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        return int(self.visual.trunk.num_prefix_tokens)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self.visual.trunk.patch_embed.patch_size[0])

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return normalisation_of(self.visual)

    def embed(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b t d"], tuple[int, int]]:
        trunk = self.visual.trunk
        patches = cut(trunk.patch_embed.proj, pixels, self.step)
        grid = (patches.shape[2], patches.shape[3])
        tokens = trunk.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        added = 0 if trunk.no_embed_class else self.prefix
        positions = positions_of(trunk.pos_embed, trunk.patch_embed.grid_size, grid, added)
        first = [each for each in (trunk.cls_token, trunk.reg_token) if each is not None]
        before = [each.expand(len(pixels), -1, -1).to(tokens.dtype) for each in first]
        if trunk.no_embed_class:
            tokens = tokens + positions.to(tokens.dtype)
        tokens = torch.cat([*before, tokens], dim=1)
        if not trunk.no_embed_class:
            tokens = tokens + positions.to(tokens.dtype)
        return trunk.norm_pre(tokens), grid

    def norm(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        trunk = self.visual.trunk
        normed: Tensor = trunk.fc_norm(trunk.norm(tokens))  # the one stands before pooling, the other behind
        return normed

    def finish(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l e"]:
        trunk = self.visual.trunk
        pooled: Tensor = self.visual.head(trunk.forward_head(alone(trunk.norm(tokens), self.prefix + 1)))
        return pooled.unflatten(0, tokens.shape[:2])

    def readout(self, tokens: Float[Tensor, "b t d"]) -> readout.LinearReadout:
        """How the tokens behind the last block are pooled, see `contracts.Pooling`."""
        return readout.of_timm(self.visual, tokens)


Tower = OpenClipTower | TimmTower


def image_tower(visual: nn.Module, head: PatchHead | None = None, step: int | None = None) -> Tower:
    """The tower of a CLIP, taken apart.

    Args:
        visual: `model.visual` of an open_clip model; a ViT of its own or of timm.
        head: trained by `patchclip align`, if there is one.
        step: pixels between the corners of neighbouring patches; None for the size of a patch (no overlap).
            PACL's stride trick takes 4. Source: Mukhoti et al., CVPR 2023, arXiv 2212.04994, inference.

    Raises:
        TowerError: the tower has no blocks of this kind (ResNet, rotary positions, attention pools of
            open_clip).
        ConfigError: `step` is not in [1, patch].
    """
    tower = _opened(visual, head)
    if step is None:
        return tower
    if not 1 <= step <= tower.patch:
        raise ConfigError(f"step={step} must be in [1, {tower.patch}]: pixels between neighbouring patches")
    return replace(tower, step=step)


def _opened(visual: Any, head: PatchHead | None) -> Tower:
    if _is_open_clip(visual):
        return OpenClipTower(visual, head)
    trunk = getattr(visual, "trunk", None)
    if trunk is not None and _is_plain(trunk):
        return TimmTower(visual, head)
    raise TowerError(
        f"{type(visual if trunk is None else trunk).__name__} cannot be taken apart: reading patches another "
        "way needs a plain ViT with absolute positions, of open_clip or timm (ViT-B-16, ViT-L-14, "
        "ViT-B-16-SigLIP, ...)"
    )


def _is_open_clip(visual: Any) -> bool:
    """open_clip's own ViT, without attention pooling, of square patches."""
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None or not hasattr(visual, "conv1") or visual.attn_pool is not None:
        return False
    height, width = visual.conv1.kernel_size
    scored = any(getattr(block.attn, "logit_scale", None) is not None for block in blocks)
    return height == width and not scored  # cosines in place of products: not queries and keys as others


def _is_plain(trunk: Any) -> bool:
    """timm's ViT with its ordinary blocks, attention and positions."""
    kinds = {(type(block), type(getattr(block, "attn", None))) for block in getattr(trunk, "blocks", ())}
    if kinds != {(PlainBlock, Attention)} or type(getattr(trunk, "patch_embed", None)) is not PatchEmbed:
        return False
    gated = any(getattr(block.attn, "gate", None) is not None for block in trunk.blocks)
    rotary, distilled = getattr(trunk, "rope", None) is not None, hasattr(trunk, "dist_token")
    height, width = trunk.patch_embed.patch_size
    return height == width and trunk.pos_embed is not None and not (gated or rotary or distilled)


def normalisation_of(visual: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels, as open_clip writes them beside every tower.

    Raises:
        TowerError: a tower that was not made by open_clip's factory does not say them.
    """
    stated = getattr(visual, "preprocess_cfg", {})
    if "mean" not in stated or "std" not in stated:
        raise TowerError(
            "this tower does not say how its pixels are normalised: set visual.preprocess_cfg = "
            '{"mean": (...), "std": (...)}, as open_clip.create_model does'
        )
    return tuple(map(float, stated["mean"])), tuple(map(float, stated["std"]))


def cut(convolution: Any, pixels: Float[Tensor, "b 3 h w"], step: int | None) -> Float[Tensor, "b d gh gw"]:
    """The patch embedding, every `step` pixels.

    Raises:
        TowerError: sides that are not whole numbers of steps.
    """
    patch = int(convolution.kernel_size[0])
    step = step or patch
    height, width = pixels.shape[-2:]
    if min(height, width) < patch or (height - patch) % step or (width - patch) % step:
        raise TowerError(
            f"images of {height} x {width} px do not hold whole patches of {patch} px every {step} px: "
            "resize them first"
        )
    return F.conv2d(pixels, convolution.weight, convolution.bias, stride=step)


def positions_of(
    table: Float[Tensor, "1 t d"], own: tuple[int, int], grid: tuple[int, int], prefix: int
) -> Float[Tensor, "1 u d"]:
    """Position embeddings for another grid: bicubic with antialiasing, as open_clip and timm resize them."""
    if tuple(own) == tuple(grid):
        return table
    return resample_abs_pos_embed(
        table, new_size=list(grid), old_size=list(own), num_prefix_tokens=prefix, antialias=True
    )


def alone(tokens: Tensor, length: int) -> Tensor:
    """Each token as a sequence of its own, repeated: any pooling (class, mean, attention) returns it."""
    return tokens.flatten(0, 1).unsqueeze(1).expand(-1, length, -1)
