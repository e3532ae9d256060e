"""Towers, whole and taken apart: the seams of `heads/` and `dense/`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Patches:
    """Patch features [b,l,e] and their (gh, gw) grid, row by row: patch i lies at (i // gw, i % gw)."""

    features: Float[Tensor, "b l e"]
    grid: tuple[int, int]


@runtime_checkable
class Block(Protocol):
    """One pre-norm transformer block of an image tower, taken apart (see models/image_tower.py).

    Letters: t tokens (prefix tokens and patches), m heads, d / m the width of a head. As the tower runs it:
    x = x + merge(attention(*qkv(x))); x = x + mlp(x).
    """

    @property
    def heads(self) -> int:
        """Attention heads m."""

    def normed(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Tokens after the first norm: what queries, keys and values are made of."""

    def qkv(self, tokens: Float[Tensor, "b t d"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [b, m, t, d / m] of the tokens, after the first norm."""

    def merge(self, values: Float[Tensor, "b m t dm"]) -> Float[Tensor, "b t d"]:
        """Heads joined and projected (and layer-scaled, where the tower does): what the tokens gain."""

    def mlp(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Second norm and MLP (and layer scale), without the residual."""

    def __call__(self, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """The block as the tower itself runs it."""


@runtime_checkable
class PatchHead(Protocol):
    """A small trained module on frozen towers that maps patch tokens into the space of the texts.

    It is a torch module; its constructor's options are plain values, `build` makes the weights.
    """

    def build(self, width: int, embedding: int) -> None:
        """Makes the weights for tokens of `width` and texts of `embedding` numbers, by torch's generator."""
        ...

    def __call__(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l e"]:
        """Patch embeddings, not normalised, of tokens after the tower's final norm."""
        ...

    def compatibility(
        self, patches: Float[Tensor, "b l e"], texts: Float[Tensor, "n e"]
    ) -> Float[Tensor, "b n"]:
        """Score in [-1, 1] of every image with every text; the gradient reaches both."""
        ...


class ImageTower(Protocol):
    """An image tower taken apart, for methods that read its last blocks in another way.

    As the tower runs it: tokens, grid = embed(pixels); each block in turn; finish(tokens[:, prefix:]).
    """

    @property
    def blocks(self) -> Sequence[Block]: ...

    @property
    def prefix(self) -> int:
        """Tokens before the patches: class token and registers."""

    @property
    def head(self) -> PatchHead | None:
        """A head trained by `patchclip align`, if the model has one."""

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each colour that its pixels are normalised with."""

    def embed(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b t d"], tuple[int, int]]:
        """Tokens in front of the first block and the (gh, gw) grid; any size of whole patches."""

    def norm(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """Patch tokens after the tower's final norm: what a head reads."""

    def finish(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l e"]:
        """Final norm and projection of each patch token, pooled alone; not normalised."""


class Readout(Protocol):
    """How one batch was pooled, which tells what anything added to its tokens adds to the image embedding.

    The final norm's mean and deviation, and the weights of an attention pool, are held as the tokens made
    them: what is left is linear. Terms are not of unit length.
    """

    @property
    def places(self) -> slice:
        """The tokens that are pooled."""

    @property
    def bias(self) -> Float[Tensor, "b e"]:
        """What the pooling adds whatever the tokens are: its biases, and an MLP behind an attention pool."""

    def direct(self, added: Float[Tensor, "#b #p d"]) -> Float[Tensor, "b e"]:
        """What `added` to the tokens at `places` adds to the embedding (b = 1 or p = 1: the same to all)."""
        ...

    def attended(
        self, block: Block, tokens: Float[Tensor, "b t d"], by_token: bool, by_head: bool
    ) -> Float[Tensor, "b #t m e"]:
        """What the heads of a block add that read `tokens`, without the bias behind them.

        Args:
            block: of the tower.
            tokens: in front of the block.
            by_token: keep the tokens read apart; their sum otherwise, t = 1.
            by_head: keep the heads apart; their sum otherwise, m = 1.

        Raises:
            TowerError: a block that norms what its heads put out.
        """
        ...

    def offset(self, block: Block) -> Float[Tensor, "b e"]:
        """What the bias behind the heads of a block adds."""
        ...


@runtime_checkable
class Pooling(Protocol):
    """An image tower that says how it makes one embedding of its last tokens."""

    def readout(self, tokens: Float[Tensor, "b t d"]) -> Readout:
        """How these tokens, behind the last block, are pooled.

        Raises:
            TowerError: pooling that is no weighted sum (maximum), or a projection that is not linear.
        """
        ...


@runtime_checkable
class DenseMethod(Protocol):
    """A way to read patch features in the space of the texts out of an image tower.

    A method may define `similarity(features [b,l,e] of unit length, texts [n,e]) -> [b,l,n]`, linear in the
    features, where it is not their cosine.
    """

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on their grid."""
        ...


class Encoder(Protocol):
    """A trained CLIP as every suite and application sees it (see models/towers.py)."""

    name: str
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[[list[str]], Tensor]

    @property
    def device(self) -> torch.device: ...

    def encode_image(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        """Image embeddings: of unit length, or rows of another similarity (models/similarity.py)."""
        ...

    def encode_text(self, tokens: Int64[Tensor, "n s"]) -> Float[Tensor, "n e"]:
        """Text embeddings, likewise."""
        ...

    def patch_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Unit-length patch embeddings in the space of the text embeddings."""
        ...
