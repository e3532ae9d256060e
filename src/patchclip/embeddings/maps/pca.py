"""Principal components of embeddings."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import FeatureStats, principal
from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import ConfigError, DataError


@dataclass(frozen=True)
class PCA:
    """Keeps the directions in which embeddings vary most.

    y = V_k^T (x - mean), V_k the eigenvectors of the k largest eigenvalues of the covariance

    Source: Pearson, "On Lines and Planes of Closest Fit to Systems of Points in Space", Philosophical
    Magazine 1901.
    Differs: the largest entry of each direction is positive, so that a fit gives the same signs everywhere.

    Args:
        dims: directions kept, >= 1; None for all, which is a rotation.

    Raises:
        ConfigError: `dims` below 1.
    """

    dims: int | None = None

    def __post_init__(self) -> None:
        if self.dims is not None and self.dims < 1:
            raise ConfigError(f"dims={self.dims} must be at least 1, or None for all directions")

    def fit(self, source: Float[Tensor, "n e"], target: Float[Tensor, "m f"] | None = None) -> LinearMap:
        """The map, [k, e]; its inverse gives the nearest embeddings in the kept directions.

        Raises:
            DataError: fewer than 2 rows, rows that are not finite, fewer numbers than `dims`, or a target.
        """
        if target is not None:
            raise DataError("PCA knows one set of embeddings, got a target too: fit a map to each")
        stats = FeatureStats.of(source)
        if self.dims is not None and self.dims > stats.width:
            raise DataError(f"dims={self.dims} directions were asked of embeddings of {stats.width} numbers")
        _, vectors = principal(stats.covariance)
        return LinearMap(vectors[:, : self.dims].T.contiguous(), shift=stats.mean).to(source)
