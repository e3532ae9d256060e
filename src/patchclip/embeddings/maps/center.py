"""Centring: the mean of embeddings is taken off, or replaced by that of others."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import FeatureStats
from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import DataError


@dataclass(frozen=True)
class Center:
    """Moves embeddings so that their mean is zero, or that of the target.

    y = x - mean(source) + mean(target)

    Source: Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
    Representation Learning", NeurIPS 2022, arXiv 2203.02053, section 5 (the shift by the distance of the two
    centroids, here the whole of it).
    Differs: embeddings are not brought back to unit length afterwards: a linear map cannot do it.
    """

    def fit(self, source: Float[Tensor, "n e"], target: Float[Tensor, "m f"] | None = None) -> LinearMap:
        """The map; rows of the target need not belong to those of the source.

        Raises:
            DataError: no rows, rows that are not finite, or a target of another width.
        """
        stats = FeatureStats.of(source)
        if target is not None and target.shape[1:] != source.shape[1:]:
            raise DataError(
                f"a mean of {list(target.shape[1:])} numbers cannot replace one of {list(source.shape[1:])}"
            )
        weight = torch.eye(stats.width, dtype=torch.float64, device=stats.mean.device)
        bias = None if target is None else FeatureStats.of(target).mean.to(weight)
        return LinearMap(weight, shift=stats.mean, bias=bias).to(source)
