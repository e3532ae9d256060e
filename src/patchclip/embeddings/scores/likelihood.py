"""Likelihood of images and captions in the whitened space of a CLIP."""

from functools import partial

from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import FeatureStats, check_whitening, log_normal, whitening
from patchclip.embeddings.linear_map import LinearMap
from patchclip.embeddings.scores._sides import check_side, summed


class Likelihood:
    """How likely a row is among those of a reference set, were their whitened embeddings normal.

    score = -(r log(2 pi) + ||y||^2) / 2,  y = W (x - mean) of r numbers;  both: the sum of the two

    Source: Betser, Levi, Gilboa, "Whitened CLIP as a Likelihood Surrogate of Images and Captions", ICML 2025,
    arXiv 2505.06934, section 3.
    Differs: the released code whitens numbers that correlate as noise (see `embeddings/maps/whiten.py`); the
    sum of both modalities is ours. The density is that of y: log |det W|, the same for all rows, stays out.

    Embeddings are those of the towers, not of unit length: lengths count.

    Args:
        of: "image", "text" or "both".
        shrinkage: see `Whiten`, in [0, 1].
        rank: directions that count, >= 1; None for all that vary.

    Raises:
        ConfigError: an option outside its range.
    """

    def __init__(self, of: str = "both", shrinkage: float = 0.0, rank: int | None = None) -> None:
        check_side(of)
        check_whitening(shrinkage, rank)
        self.of, self.shrinkage, self.rank = of, shrinkage, rank
        self.maps: tuple[LinearMap, ...] = ()

    def fit(self, image: Float[Tensor, "n e"], text: Float[Tensor, "m e"]) -> "Likelihood":
        """Learns the reference set: mean and covariance of each modality. Returns itself.

        Raises:
            DataError: fewer than 2 rows, rows that are not finite, or fewer directions than `rank`.
        """
        self.maps = tuple(
            whitening(FeatureStats.of(rows), self.shrinkage, self.rank) for rows in (image, text)
        )
        return self

    def __call__(self, image: Float[Tensor, "b e"], text: Float[Tensor, "b e"]) -> Float[Tensor, "b"]:
        """Log-likelihoods, float32 for half precision. Raises DataError before `fit`."""
        return summed(self.of, image, text, tuple(partial(_density, whiten) for whiten in self.maps))


def _density(whiten: LinearMap, rows: Float[Tensor, "n e"]) -> Float[Tensor, "n"]:
    return log_normal(whiten.apply(rows).square().sum(dim=-1), whiten.output_width)
