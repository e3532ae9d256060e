"""The module between the patch embedding and the first block of a ViT tower: it drops patches.

Two hooks on the patch embedding belong to it. Before, it sees the pixels (and shrinks them, for a masker that
resizes). After, if the image is smaller than the model's, it takes the embedded patches aside and lets zeros
of the full grid go on, so that the tower's own code adds its position embedding; the slot then resizes that
to the small grid and adds the patches again. So no tower's code is copied, whatever its positions are.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.contracts import Masker, Resizing
from patchclip.errors import TowerError

Grid = tuple[int, int]


class SampleGenerator(torch.Generator):
    """A generator for a part of a batch: rows (first, total) of the whole one, or one row `shared` by all.

    See `masking/_noise.py`.
    """

    rows: tuple[int, int] = (0, 1)
    shared: bool = False


def hash_seed(parts: tuple[int, ...]) -> int:
    """One 63-bit seed from several integers (run seed, step ...), well mixed."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Layout:
    """How a tower lays out its tokens.

    Args:
        prefix: tokens before the patches (class and register tokens), always kept.
        patch: (height, width) of a patch in pixels, or None if the tower does not say.
        grid: rows and columns of patches that the position embedding is made for, or None.
        with_indices: the tower expects `(tokens, indices)` because it rotates kept positions (EVA).
        dynamic: the tower fits its positions to the size of an image by itself.
    """

    prefix: int
    patch: Grid | None = None
    grid: Grid | None = None
    with_indices: bool = False
    dynamic: bool = False


class MaskSlot(nn.Module):
    """Asks the masker which patches are kept and gathers them.

    Before each training forward the engine sets `progress`, `seed` and `rows` (all randomness of the mask
    comes from them), or `replay` to use the patches of an earlier pass again. Afterwards `keep` holds the
    indices.

    Args:
        masker: the strategy.
        layout: of the tower's tokens.
    """

    def __init__(self, masker: Masker, layout: Layout) -> None:
        super().__init__()
        self.masker, self.layout = masker, layout
        self.progress: float = 0.0
        self.seed: tuple[int, ...] = (0,)
        self.rows: tuple[int, int] | None = None
        self.replay: Tensor | None = None
        self.keep: Tensor | None = None
        self.enabled = True
        self.always = self.shared = False
        self._pixels: Tensor | None = None
        self._held: Tensor | None = None
        self._given: Grid | None = None  # rows and columns of patches of the image given ...
        self._seen: Grid | None = None  # ... and of the one the tower sees, smaller if the masker resizes
        self._bias: Tensor | None = None
        self._dropped = 0.0

    @property
    def active(self) -> bool:
        """Whether forwards are masked: in training, or always if `always` is set (inference)."""
        return self.enabled and (self.training or self.always)

    @property
    def mask_ratio(self) -> float:
        """Share of the patches that the last forward dropped."""
        return self._dropped

    def masks(self, patches: int) -> bool:
        """Whether the next forward would drop any of `patches`."""
        return self.active and self.masker.kept(patches, self.progress) < patches

    def see(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Forward-pre-hook of the patch embedding: remembers the pixels, and shrinks them if asked to."""
        pixels, patch, grid = args[0], self.layout.patch, self.layout.grid
        self._pixels = self._given = self._seen = self._held = None
        if pixels.ndim != 4:
            return None
        self._pixels = self.whole(pixels.detach()) if self.active else None
        if patch is None or grid is None:
            return None
        self._given = self._seen = (pixels.shape[-2] // patch[0], pixels.shape[-1] // patch[1])
        if self.active and isinstance(self.masker, Resizing):
            self._seen = self.masker.resized(self._given, self.progress)
        if self._seen != grid and getattr(module, "strict_img_size", False):
            module.strict_img_size = False  # type: ignore[assignment]
        if self._seen == self._given:
            return None
        size = (self._seen[0] * patch[0], self._seen[1] * patch[1])
        return (shrink(self.whole(pixels), size), *args[1:])

    def hold(self, module: nn.Module, args: tuple[Any, ...], patches: Tensor) -> Tensor | None:
        """Forward-hook of the patch embedding: takes the patches of a small image aside, see the module."""
        seen, grid = self._seen, self.layout.grid
        if seen is None or grid is None or seen == grid:
            return None
        if seen[0] > grid[0] or seen[1] > grid[1]:
            raise TowerError(
                f"an image of {seen[0]} x {seen[1]} patches is larger than the model's {grid[0]} x {grid[1]}"
                ": resize the image, or set model.image_size"
            )
        if patches.ndim == 4:  # b d gh gw
            self._held = patches.flatten(2).transpose(1, 2)
            return patches.new_zeros(1, patches.shape[1], *grid)
        self._held = patches
        return patches.new_zeros(1, grid[0] * grid[1], patches.shape[-1])

    def forward(self, x: Tensor) -> Any:
        """Tokens [b, prefix + l, d] in, [b, prefix + k, d] out (with the indices for towers that ask)."""
        prefix = self.layout.prefix
        held, self._held = self._held, None
        if held is not None and self.layout.grid is not None and self._seen is not None:
            positions = resize_positions(x[:, prefix:], self.layout.grid, self._seen)
            x = torch.cat([x[:, :prefix].expand(len(held), -1, -1), held + positions], dim=1)
        keep = self.choose(x)
        if keep is not None and not isinstance(self.masker, Resizing):
            index = keep.unsqueeze(-1).expand(-1, -1, x.shape[-1])
            x = torch.cat([x[:, :prefix], x[:, prefix:].gather(1, index)], dim=1)
        return (x, self.places(keep, x)) if self.layout.with_indices else x

    @torch.compiler.disable
    @torch.no_grad()
    def choose(self, x: Tensor) -> Tensor | None:
        """Indices [b, k] of the patches kept, or None if all are."""
        tokens = x[:, self.layout.prefix :].detach()
        pixels, self._pixels = self._pixels, None
        replay, self.replay = self.replay, None
        self.keep, self._bias, self._dropped = None, None, 0.0
        given = tokens.shape[1] if self._given is None else self._given[0] * self._given[1]
        if not self.masks(given):
            return None
        if pixels is None:
            raise TowerError(
                "the mask did not see the pixels [b, 3, h, w] of this forward: call attach() again"
            )
        self.keep = self.selected(pixels, tokens, replay)
        self._dropped = 1 - self.keep.shape[1] / given
        return self.keep

    def selected(self, pixels: Tensor, tokens: Tensor, replay: Tensor | None) -> Tensor:
        """What the masker keeps, or kept in an earlier pass; for one that resizes, the nearest places."""
        if isinstance(self.masker, Resizing):
            if self._given is None or self._seen is None:
                raise TowerError("the tower's patch grid is unknown: its images cannot be resized")
            return nearest_places(self._given, self._seen, tokens.device).expand(len(tokens), -1)
        biased = hasattr(self.masker, "last_bias")
        if replay is not None and not biased:
            return replay
        keep = self.masker.select(pixels, tokens, self.progress, self.generator(tokens))
        self._bias = self.masker.last_bias if biased else None  # type: ignore[attr-defined]
        return keep

    def generator(self, tokens: Tensor) -> SampleGenerator:
        """The randomness of this forward."""
        generator = SampleGenerator(tokens.device)
        generator.rows, generator.shared = self.rows or (0, len(tokens)), self.shared
        generator.manual_seed(hash_seed(self.seed))
        return generator

    def places(self, keep: Tensor | None, x: Tensor) -> Tensor | None:
        """Where the patches of `x` lie on the model's own grid, for rotary positions; None: all of it."""
        resized = isinstance(self.masker, Resizing)
        if self._seen is None or self.layout.grid is None or self._seen == self.layout.grid:
            return keep
        if self.layout.dynamic:
            return None if resized else keep
        lattice = nearest_places(self.layout.grid, self._seen, x.device).expand(len(x), -1)
        return lattice if keep is None or resized else lattice.gather(1, keep)

    def add_bias(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Forward-pre-hook of open_clip's transformer: the attention bias of a masker that has one.

        [b, k, k] becomes [heads * b, 1 + k, 1 + k], images first, as the released CLIP-PGS repeats it:
        attention reads heads first, so most heads see the bias of another image. Between the class token and
        a patch stands what the patch has with itself.
        """
        if self._bias is None:
            return None
        heads = module.resblocks[0].attn.num_heads  # type: ignore[index,union-attr]
        own = self._bias.diagonal(dim1=1, dim2=2)
        below = torch.cat([own.unsqueeze(2), self._bias], dim=2)
        above = torch.cat([torch.ones_like(own[:, :1]), own], dim=1).unsqueeze(1)
        bias = torch.cat([above, below], dim=1).to(args[0].dtype).repeat(heads, 1, 1)
        return args, {**kwargs, "attn_mask": bias}

    def whole(self, pixels: Tensor) -> Tensor:
        """Pixels cropped to whole patches, as the patch embedding sees them."""
        if self.layout.patch is None:
            return pixels
        h, w = (size // p * p for size, p in zip(pixels.shape[-2:], self.layout.patch, strict=True))
        return pixels[..., :h, :w]


def shrink(pixels: Float[Tensor, "b 3 h w"], size: Grid) -> Float[Tensor, "b 3 y x"]:
    """The image in `size` pixels: bicubic, with anti-aliasing."""
    small = F.interpolate(pixels.float(), size, mode="bicubic", antialias=True, align_corners=False)
    return small.to(pixels.dtype)


def resize_positions(
    positions: Float[Tensor, "one l d"], grid: Grid, small: Grid
) -> Float[Tensor, "one k d"]:
    """Position embeddings of a grid on a smaller one: bicubic, anti-aliased, as open_clip resizes them."""
    board = positions.float().unflatten(1, grid).permute(0, 3, 1, 2)
    board = F.interpolate(board, small, mode="bicubic", antialias=True, align_corners=False)
    return board.flatten(2).transpose(1, 2).to(positions.dtype)


def nearest_places(grid: Grid, small: Grid, device: torch.device) -> Tensor:
    """The patch [1, k] of `grid` nearest to the centre of each patch of a smaller grid, ascending."""
    rows, columns = (
        ((torch.arange(n, device=device) + 0.5) * (full / n)).long().clamp_max(full - 1)
        for n, full in zip(small, grid, strict=True)
    )
    return (rows[:, None] * grid[1] + columns[None, :]).flatten().unsqueeze(0)
