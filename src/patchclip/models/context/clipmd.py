"""ClipMD: a long caption is read in overlapping windows, their embeddings are averaged."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError

OVERLAP = 7
"""Tokens that neighbouring windows of the released code share (77 with a stride of 70)."""
POOLS = ("mean", "max", "weighted")


@dataclass(frozen=True)
class ClipMD:
    """Windows of the tower's own context; the caption's embedding is that of its windows, pooled.

    window i = tokens [i stride, i stride + room), until the last token is read;  t = mean_i encode(window i)

    Source: Glassberg, Hope, "Increasing Textual Context Size Boosts Medical Image-Text Matching", 2023,
    arXiv 2303.13340, and the released code (ClipMDModel.py): the mean, before embeddings are normalised.
    Differs: every window has a start and an end token of its own. The released code cuts the row of start
    token, words and end token, so that only the last window has an end token: at the others CLIP, which
    reads its output at the highest token id, reads the start token's place (the first window: the same
    embedding whatever its words) or any word's. It also reads a last window of seven tokens that the one
    before it has read where the row has 77 + 70 k tokens. `pool` is the mean there.

    Args:
        stride: tokens from the start of a window to that of the next, >= 1 and at most the room of a
            window; None is the room less 7, the overlap of the released code.
        pooling: "mean", "max" (number by number) or "weighted" (mean by the tokens of each window).

    Raises:
        ConfigError: an option outside its range.
    """

    stride: int | None = None
    pooling: str = "mean"

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"stride={self.stride} must be at least 1, or null for windows that share 7")
        if self.pooling not in POOLS:
            raise ConfigError(f"pooling={self.pooling!r} must be one of {', '.join(POOLS)}")

    def positions(self, table: Float[Tensor, "s d"]) -> Float[Tensor, "t d"]:
        """The table itself: the tower stays as it is."""
        return table

    def cut(self, length: int, room: int) -> list[tuple[int, int]]:
        """Where windows of a caption start and end; the last one ends with the caption.

        Args:
            length: tokens of the caption, start and end token not counted.
            room: tokens that fit into a window, start and end token not counted.

        Raises:
            ConfigError: a stride above the room: tokens between windows would not be read.
        """
        stride = max(1, room - OVERLAP) if self.stride is None else self.stride
        if stride > room:
            raise ConfigError(
                f"stride={stride} must be at most {room}, the tokens of a window without its start and end "
                "token: those between two windows would not be read"
            )
        last = max(0, -((room - length) // stride))  # windows behind the first
        return [(i * stride, min(i * stride + room, length)) for i in range(last + 1)]

    def pool(self, embeddings: Float[Tensor, "w e"], lengths: Int64[Tensor, " w"]) -> Float[Tensor, " e"]:
        """The caption's embedding, of those of its windows (not normalised)."""
        if self.pooling == "max":
            return embeddings.amax(dim=0)
        if self.pooling == "mean":
            return embeddings.mean(dim=0)
        wide = embeddings.float()
        counts = lengths.to(wide)
        return ((counts[:, None] * wide).sum(dim=0) / counts.sum()).to(embeddings.dtype)
