"""Whitening: embeddings without a mean, of variance 1 in every direction."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import FeatureStats, check_whitening, whitening
from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import DataError


@dataclass(frozen=True)
class Whiten:
    """Makes the covariance of embeddings the identity.

    y = Lambda^(-1/2) V^T (x - mean);  zca: y = V Lambda^(-1/2) V^T (x - mean)

    Source: Betser, Levi, Gilboa, "Whitened CLIP as a Likelihood Surrogate of Images and Captions", ICML 2025,
    arXiv 2505.06934, section 3; zca: Bell, Sejnowski, "The \"Independent Components\" of Natural Scenes Are
    Edge Filters", Vision Research 1997.
    Differs: the released code writes 0.1 N(0, 1) noise over every number of an embedding that correlates with
    an earlier one by more than 0.9 before it whitens, so its map is drawn anew at each call and its inverse
    does not give those numbers back. Here directions without variance are left out (`rank`), or all are
    given some (`shrinkage`); both need no noise and work with fewer rows than numbers.

    Args:
        zca: rotate back, so that whitened embeddings stay as near to the embeddings as they can.
        shrinkage: share of the covariance replaced by that of a ball of the same trace, in [0, 1].
        rank: directions kept, >= 1; None for all that vary.

    Raises:
        ConfigError: an option outside its range.
    """

    zca: bool = False
    shrinkage: float = 0.0
    rank: int | None = None

    def __post_init__(self) -> None:
        check_whitening(self.shrinkage, self.rank)

    def fit(self, source: Float[Tensor, "n e"], target: Float[Tensor, "m f"] | None = None) -> LinearMap:
        """The map, of the r directions kept: [r, e], or [e, e] with `zca`.

        Raises:
            DataError: fewer than 2 rows, rows that are not finite, fewer directions than `rank`, or a target.
        """
        if target is not None:
            raise DataError("whitening knows one set of embeddings, got a target too: fit a map to each")
        found = whitening(FeatureStats.of(source), self.shrinkage, self.rank)
        if self.zca:
            directions = found.weight / found.weight.norm(dim=1, keepdim=True)
            found = LinearMap(directions.T @ found.weight, shift=found.shift)
        return found.to(source)
