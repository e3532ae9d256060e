"""Long-CLIP: the well-trained first positions stay, the others are stretched."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError


@dataclass(frozen=True)
class LongClip:
    """More positions: the first `kept` rows of the table as they are, the others `factor` times as many.

    row[k + f i + j] = (1 - j/f) table[k + i] + (j/f) table[k + i + 1], 0 <= j < f, k = kept, f = factor;
    behind the last row of the table the line through its last two goes on: f s - (f - 1) k rows of s.

    A text of at most kept + 1 tokens, start and end token among them, keeps its embedding in a causal tower.
    In training the kept rows stay as they are (`models/long_context.py`).

    Source: Zhang, Zhang, Dong, Zang, Wang, "Long-CLIP: Unlocking the Long-Text Capability of CLIP",
    ECCV 2024, arXiv 2403.15378, "knowledge-preserved stretching", and the released code (model/longclip.py).
    Differs: the paper's formula reads table[pos / 4] for pos > 20, which would jump from row 20 back to
    row 5; the released code goes on from row 20, and so does this. The interpolation is in float32, the
    released one in the table's own precision.

    Args:
        kept: first rows that stay, >= 0 and below the rows of the table.
        factor: rows that each of the others becomes, >= 1; 1 changes nothing.

    Raises:
        ConfigError: an option outside its range.
    """

    kept: int = 20
    factor: int = 4

    def __post_init__(self) -> None:
        if self.kept < 0 or self.factor < 1:
            raise ConfigError(f"kept={self.kept} must be at least 0 and factor={self.factor} at least 1")

    def positions(self, table: Float[Tensor, "s d"]) -> Float[Tensor, "t d"]:
        """Position embeddings of the longer context, in the table's precision.

        Raises:
            ConfigError: a table with no row beyond the first `kept`, or of fewer than two rows.
        """
        rows = len(table)
        if self.kept >= rows or rows < 2:
            raise ConfigError(
                f"kept={self.kept} must be below the {rows} positions of the text tower, of which there must "
                f"be at least 2: set context.kept={max(0, min(self.kept, rows // 4))}, say"
            )
        step = torch.arange(self.factor * (rows - self.kept), device=table.device)
        place = self.kept + step // self.factor  # of the old row at or before each new one
        left = place.clamp_max(rows - 2)
        wide = table.to(torch.promote_types(table.dtype, torch.float32))
        share = ((step % self.factor) / self.factor + (place - left)).to(wide.dtype)[:, None]
        stretched = (1 - share) * wide[left] + share * wide[left + 1]
        return torch.cat([table[: self.kept], stretched.to(table.dtype)])

    def cut(self, length: int, room: int) -> list[tuple[int, int]]:
        """One window: what fits."""
        return [(0, min(length, room))]

    def pool(self, embeddings: Float[Tensor, "w e"], lengths: Int64[Tensor, " w"]) -> Float[Tensor, " e"]:
        """The embedding of the one window."""
        return embeddings[0]
