"""How well a plane tells two sets of embeddings apart."""

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import CHUNK, FeatureStats

RIDGE = 1e-3
"""Share of the mean variance that is added to every direction: there may be fewer rows than numbers."""


def held_out_accuracy(
    one: Float[Tensor, "n e"], other: Float[Tensor, "n e"], dims: int | None = None
) -> float:
    """Share of the odd rows on their side of the plane that linear discriminant analysis fits to the even.

    w = (S + ridge I)^-1 (m_1 - m_2), through the middle of the means; S pooled over both sets

    Source: Fisher, "The Use of Multiple Measurements in Taxonomic Problems", Annals of Eugenics 1936.

    Args:
        one: at least 4 rows.
        other: as many; 0.5 means that nothing tells them apart.
        dims: use only so many numbers of an embedding, those whose means are farthest apart for their
            variance (on the even rows); None for all.
    """
    fitted = [FeatureStats.of(rows[::2]) for rows in (one, other)]
    apart = fitted[0].mean - fitted[1].mean
    within = (fitted[0].covariance + fitted[1].covariance) / 2
    variance = within.diagonal()
    floor = torch.finfo(torch.float64).tiny
    chosen = (apart.square() / variance.clamp_min(floor)).argsort(descending=True)[:dims]
    within = within[chosen][:, chosen]
    ridge = RIDGE * within.diagonal().mean().clamp_min(floor)
    normal = torch.linalg.solve(within + ridge * torch.eye(len(chosen)).to(within), apart[chosen])
    middle = (fitted[0].mean + fitted[1].mean)[chosen] / 2
    hits, total = 0.0, 0
    for rows, sign in ((one, 1), (other, -1)):
        for part in rows[1::2].split(CHUNK):
            side = (part.to(apart)[:, chosen] - middle) @ normal
            hits += float(((sign * side).sign() + 1).sum() / 2)  # on the plane itself: half
            total += len(part)
    return hits / total
