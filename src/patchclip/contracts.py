"""What travels between the folders: shapes, small dataclasses and the Protocols of the seams.

Letters in every shape of the project:

    b  images (batch)            k  patches kept by a mask       n  texts
    l  patches, l = gh * gw      d  width of a token             c  classes
    h w  pixels                  e  width of an embedding        s  text tokens

A method of the literature implements one Protocol in one file and knows nothing else of patchclip.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor, nn


@dataclass(frozen=True)
class Pair:
    """One image with its captions, as a data source yields it; a tensor if it was encoded before."""

    image: Image.Image | Tensor
    captions: tuple[str, ...]
    key: str


@dataclass(frozen=True)
class BadSample:
    """One sample that was skipped, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """One training batch: pixels [b,3,h,w] float32, tokens [b,s] int64, keys in order, samples skipped.

    Where a frozen tower's tokens are kept (data/features.py), `pixels` are these: [b,l,d] float16.
    """

    pixels: Tensor
    tokens: Tensor
    keys: tuple[str, ...]
    bad: tuple[BadSample, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Patches:
    """Patch features [b,l,e] and their (gh, gw) grid, row by row: patch i lies at (i // gw, i % gw)."""

    features: Float[Tensor, "b l e"]
    grid: tuple[int, int]


@dataclass(frozen=True)
class ClipStats:
    """What a gradient clipper did: norm before, threshold, share of parameters scaled (0-d tensors)."""

    norm: Tensor
    threshold: Tensor
    clipped_share: Tensor


@runtime_checkable
class Masker(Protocol):
    """Chooses which patches are seen. It returns indices only; gathering happens in models/masked.py."""

    def kept(self, patches: int, progress: float) -> int:
        """Patches kept of `patches` at `progress` in [0, 1]: the same on every rank, whatever the batch."""
        ...

    def select(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        generator: torch.Generator,
    ) -> Int64[Tensor, "b k"]:
        """Indices of the kept patches, ascending, without repeats. All randomness is the generator's."""
        ...


@runtime_checkable
class Guided(Protocol):
    """A masker that ranks patches by what another network sees in the image (see models/guide.py)."""

    score: str
    """What it ranks by: "attention" of the class token, or similarity to the "text"."""

    scorer: Callable[[Float[Tensor, "b 3 h w"], int], Float[Tensor, "b l"]] | None
    """Pixels and the number of patches -> scores; whoever uses the masker sets it before `select`."""


@runtime_checkable
class Resizing(Protocol):
    """A masker that shrinks the image instead of dropping patches."""

    def resized(self, grid: tuple[int, int], progress: float) -> tuple[int, int]:
        """Rows and columns of patches of the smaller image; their product is `kept`."""
        ...


@dataclass(frozen=True)
class Words:
    """A caption as its tokenizer cuts it: the token ids of each word, and what the words say.

    `texts` is empty where a tokenizer does not tell words apart; then every token is a word of its own.
    """

    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the caption, start and end token not counted."""
        return sum(map(len, self.tokens))


@runtime_checkable
class Reducer(Protocol):
    """Chooses which tokens of a caption are read in training. Start and end token are not its business."""

    reads_words: bool
    """Whether it looks at what the words say (`Words.texts`), not at the tokens' places alone."""

    def keep(self, words: Words, room: int, rng: random.Random) -> list[int]:
        """Places of the kept tokens in the caption, ascending: min(room, words.length) of them."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A reducer that must know how often each word stands in the training captions."""

    @property
    def needs_counts(self) -> bool:
        """Whether it has no counts yet."""
        ...

    def counted(self, counts: Mapping[str, int]) -> Reducer:
        """The same reducer with the counts, by lower-case word."""
        ...


@runtime_checkable
class SeededTokenizer(Protocol):
    """A tokenizer whose choice of tokens is drawn, one seed a caption (see models/shorten.py)."""

    def shortened(self, texts: Sequence[str], seeds: Sequence[int]) -> Int64[Tensor, "b s"]: ...


@runtime_checkable
class Loss(Protocol):
    """A contrastive objective on unit-length embeddings; the returned terms sum to the loss."""

    def __call__(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]: ...


@runtime_checkable
class GradClipper(Protocol):
    """Limits gradients in place, between backward and the optimizer step, on unscaled gradients."""

    def __call__(self, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> ClipStats: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


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
        """Unit-length image embeddings."""
        ...

    def encode_text(self, tokens: Int64[Tensor, "n s"]) -> Float[Tensor, "n e"]:
        """Unit-length text embeddings."""
        ...

    def patch_features(self, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Unit-length patch embeddings in the space of the text embeddings."""
        ...
