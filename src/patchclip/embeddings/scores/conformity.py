"""Conformity: how common an image or a caption is."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import CHUNK, check_finite, mean_row
from patchclip.embeddings.scores._sides import check_side, summed
from patchclip.errors import DataError


class Conformity:
    """The mean cosine of a row with those of a reference set of its modality: high where it is common.

    score = mean_k cos(x, x_k) = unit(x) . mean_k unit(x_k);  both: the sum of the two

    Source: Levi, Gilboa, "The Double-Ellipsoid Geometry of CLIP", ICML 2025, arXiv 2411.14517, the definition
    of conformity.
    Differs: the paper estimates it by the cosine with the mean of the embeddings, and sums over the others of
    the set, not the row itself; here it is exact, over all of the set, in O(n). Its sign as a score is ours.

    Args:
        of: "image", "text" or "both".
        rare: the negative, so that a filter keeps what is rare.

    Raises:
        ConfigError: another side.
    """

    def __init__(self, of: str = "both", rare: bool = False) -> None:
        check_side(of)
        self.of, self.rare = of, rare
        self.means: tuple[Tensor, ...] = ()

    def fit(self, image: Float[Tensor, "n e"], text: Float[Tensor, "m e"]) -> "Conformity":
        """Learns the mean unit row of each modality. Returns itself.

        Raises:
            DataError: no rows, or rows that are not finite.
        """
        self.means = tuple(_mean_of_units(rows) for rows in (image, text))
        return self

    def __call__(self, image: Float[Tensor, "b e"], text: Float[Tensor, "b e"]) -> Float[Tensor, "b"]:
        """Scores in [-1, 1] for each side, float32 for half precision. Raises DataError before `fit`."""
        found = summed(self.of, image, text, tuple(partial(_cosines, mean) for mean in self.means))
        return -found if self.rare else found


def _cosines(mean: Tensor, rows: Tensor) -> Tensor:
    if rows.shape[-1] != len(mean):
        raise DataError(f"conformity was fitted on embeddings of {len(mean)} numbers, got {rows.shape[-1]}")
    return F.normalize(rows, dim=-1) @ mean.to(rows)


def _mean_of_units(rows: Tensor) -> Tensor:
    check_finite(rows)
    wide = torch.promote_types(rows.dtype, torch.float32)
    return mean_row(F.normalize(part.to(wide), dim=-1) for part in rows.detach().split(CHUNK))
