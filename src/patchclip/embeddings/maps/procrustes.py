"""Orthogonal Procrustes: the rotation that brings embeddings nearest to others."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import CHUNK, FeatureStats
from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import DataError


@dataclass(frozen=True)
class Procrustes:
    """Turns embeddings onto those of the same rows of another model or modality; distances stay.

    W = U V^T with U S V^T = svd(Y^T X), the least ||X W^T - Y|| of all orthogonal W

    Source: Schönemann, "A Generalized Solution of the Orthogonal Procrustes Problem", Psychometrika 1966;
    without reflection: Kabsch, "A Solution for the Best Rotation to Relate Two Sets of Vectors", Acta
    Crystallographica 1976.

    Args:
        center: turn around the means, so that the mean of the source comes to that of the target too.
        reflect: a reflection is allowed; False keeps to rotations.
    """

    center: bool = True
    reflect: bool = True

    def fit(self, source: Float[Tensor, "n e"], target: Float[Tensor, "m f"] | None = None) -> LinearMap:
        """The map; row i of the target is where row i of the source belongs.

        Raises:
            DataError: no target, one of another shape, no rows, or rows that are not finite.
        """
        if target is None or target.shape != source.shape:
            shape = None if target is None else list(target.shape)
            raise DataError(
                f"Procrustes needs a target of the shape of the source, {list(source.shape)}, row by row, "
                f"got {shape}"
            )
        one, other = FeatureStats.of(source), FeatureStats.of(target)
        mean, there = (each.mean * float(self.center) for each in (one, other))
        cross = torch.zeros_like(one.gram)
        for x, y in zip(source.split(CHUNK), target.split(CHUNK), strict=True):
            cross += (y.to(cross) - there).T @ (x.to(cross) - mean)
        left, _, right = torch.linalg.svd(cross)
        if not self.reflect and torch.linalg.det(left @ right) < 0:
            left[:, -1] *= -1
        moved = {"shift": mean, "bias": there} if self.center else {}
        return LinearMap(left @ right, **moved).to(source)
