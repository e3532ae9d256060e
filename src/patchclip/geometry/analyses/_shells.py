"""Lengths, variances and conformities of the rows of one modality; `double_ellipsoid` gives them on."""

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import CHUNK, FeatureStats, check_finite, mean_row, principal
from patchclip.errors import DataError
from patchclip.geometry.analyses._rows import units

BINS = 50
"""Bars of the histograms that distributions are compared by."""


def norms(rows: Float[Tensor, "n e"], center: Float[Tensor, "e"] | None = None) -> Float[Tensor, "n"]:
    """Length of each row, or its distance to `center`, float64."""
    middle = torch.zeros(rows.shape[1]) if center is None else center
    return torch.cat([(part.double() - middle.to(part).double()).norm(dim=-1) for part in rows.split(CHUNK)])


def variances(rows: Float[Tensor, "n e"]) -> Float[Tensor, "e"]:
    """Variance of each number of the embeddings, float64."""
    return FeatureStats.of(rows).variance


def spectrum(rows: Float[Tensor, "n e"]) -> Float[Tensor, "e"]:
    """Eigenvalues of the covariance, the largest first, float64."""
    return principal(FeatureStats.of(rows).covariance)[0].clamp_min(0)


def conformity(
    rows: Float[Tensor, "n e"], reference: Float[Tensor, "m e"] | None = None
) -> Float[Tensor, "n"]:
    """Mean cosine of each row with the rows of a reference set, or of its own set, float64.

    C_j = mean_k cos(v_j, v_k) = ||m|| cos(m, v_j), m = mean_k v_k / ||v_k||: exact, in O(n)

    Differs: the paper leaves the row itself out of the mean: (n C_j - 1) / (n - 1), the same order of the
    rows; it estimates C_j by cos(mean_k v_k, v_j). Its notebook calls cos(m, v_j) the conformity, which is
    C_j / ||m||.
    """
    others = rows if reference is None else reference
    check_finite(others)
    mean = mean_row(units(others))
    return torch.cat([part.to(mean) @ mean for part in units(rows)])


def divergence(one: Float[Tensor, "n"], other: Float[Tensor, "m"], bins: int = BINS) -> Float[Tensor, ""]:
    """KL divergence of one set of numbers from another, by histograms over the range of both.

    KL = sum_k p_k log(p_k / q_k), p_k = (count_k + 1) / (n + bins), q_k alike

    Differs: one is added to every bar, for an empty one in `other` would make it infinite.
    """
    one, other = one.double().cpu(), other.double().cpu()
    if not len(one) or not len(other) or not torch.cat([one, other]).isfinite().all():
        raise DataError(f"a divergence needs finite numbers on both sides, got {len(one)} and {len(other)}")
    low, high = torch.cat([one, other]).aminmax()
    p, q = (
        (torch.histc(each, bins, float(low), float(high)) + 1) / (len(each) + bins) for each in (one, other)
    )
    return (p * (p / q).log()).sum()
