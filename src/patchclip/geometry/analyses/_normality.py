"""The Anderson-Darling test of normality."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CRITICAL = 0.752
"""At a significance of 5 %, mean and variance unknown."""
COLUMNS = 256
"""Numbers of an embedding that are sorted at a time."""


def looks_normal(rows: Float[Tensor, "n e"]) -> Bool[Tensor, "e"]:
    """Which columns pass the test at 5 %; one without variance does not.

    A^2 = -n - sum_i (2 i - 1) (log F(z_i) + log(1 - F(z_(n+1-i)))) / n, z sorted and standardised;
    normal where A^2 (1 + 0.75 / n + 2.25 / n^2) < 0.752

    Source: Anderson, Darling, "A Test of Goodness of Fit", JASA 1954; factor and critical value: D'Agostino,
    Stephens, "Goodness-of-Fit Techniques", 1986, table 4.7.
    """
    return torch.cat([statistic(part) < CRITICAL for part in rows.split(COLUMNS, dim=1)])


def statistic(rows: Float[Tensor, "n e"]) -> Float[Tensor, "e"]:
    """The statistic with its factor for n rows; infinite for a column without variance."""
    n = len(rows)
    x = rows.double().sort(dim=0).values
    deviation = x.std(dim=0)
    z = (x - x.mean(dim=0)) / deviation.clamp_min(torch.finfo(torch.float64).tiny)
    weights = (2 * torch.arange(1, n + 1, device=x.device) - 1)[:, None] / n
    below = torch.special.log_ndtr(z)
    above = torch.special.log_ndtr(-z).flip(0)
    found = (-n - (weights * (below + above)).sum(dim=0)) * (1 + 0.75 / n + 2.25 / n**2)
    return torch.where(deviation > 0, found, torch.inf)
