"""The paired bootstrap: whole groups are drawn, both models see the same draw."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from patchclip.evaluation.result import Samples

BLOCK_DRAWS = 1 << 22
"""Numbers of one block of weights: draws x groups is never held whole."""


@dataclass(frozen=True)
class Pair:
    """One metric of two models on the groups that both have.

    Attributes:
        sums: of the outcomes of each group, for the baseline and the other model.
        counts: queries of each group.
        groups: the numbers of the groups.
        whole: whether both models have exactly these groups.
    """

    sums: Float[np.ndarray, "2 g"]
    counts: Float[np.ndarray, "2 g"]
    groups: Int[np.ndarray, "g"]
    whole: bool

    @property
    def difference(self) -> float:
        """The other model's mean minus the baseline's, on these groups."""
        first, second = self.sums.sum(1) / self.counts.sum(1)
        return float(second - first)


def pair(baseline: Samples, other: Samples) -> Pair | None:
    """Sums over the groups that both models have, None where there are none."""
    each = [_grouped(samples) for samples in (baseline, other)]
    groups = np.intersect1d(each[0][0], each[1][0])
    if not len(groups):
        return None
    places = [np.searchsorted(found[0], groups) for found in each]
    return Pair(
        np.stack([found[1][place] for found, place in zip(each, places, strict=True)]),
        np.stack([found[2][place] for found, place in zip(each, places, strict=True)]),
        groups,
        len(groups) == len(each[0][0]) == len(each[1][0]),
    )


def differences(
    pairs: Mapping[str, Pair],
    draws: int,
    generator: np.random.Generator,
    every: Int[np.ndarray, "u"] | None = None,
) -> dict[str, Float[np.ndarray, "d"]]:
    """Draws of the difference of each metric; all metrics of a data set see the same draws of images.

    Formula: delta* = sum_g w_g s2_g / sum_g w_g c2_g - sum_g w_g s1_g / sum_g w_g c1_g, where w is
    multinomial: G groups drawn with replacement. A ratio of sums, so that groups may differ in size.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, sections 6 and 13 (percentiles);
        whole groups: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8.

    Args:
        pairs: by metric.
        draws: d, at least 1.
        generator: of the draws.
        every: groups to draw from, ascending, at least those of the pairs; None for theirs. Two calls with
            the same groups and seed draw the same.

    Returns:
        By metric, NaN in a draw that meets none of its groups.
    """
    if not pairs:
        return {}
    if every is None:
        every = np.unique(np.concatenate([each.groups for each in pairs.values()]))
    table = np.zeros((len(every), 4 * len(pairs)))
    for i, each in enumerate(pairs.values()):
        rows = np.searchsorted(every, each.groups)
        more = each.sums[1] - each.sums[0]  # exactly 0 for identical models, and so is their difference
        table[rows, 4 * i : 4 * i + 4] = np.stack([more, each.sums[0], each.counts[1], each.counts[0]], 1)
    blocks = [part @ table for part in _weights(len(every), draws, generator)]
    total = np.concatenate(blocks).reshape(draws, len(pairs), 4)
    more, base, of_other, of_base = np.moveaxis(total, 2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (more + base) / of_other - base / of_base
    return {name: found[:, i] for i, name in enumerate(pairs)}


def interval(draws: Float[np.ndarray, "d"], level: float = 0.95) -> tuple[float, float] | None:
    """The percentiles that leave (1 - level) / 2 on either side, None where no draw is a number."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _weights(groups: int, draws: int, generator: np.random.Generator) -> Iterator[Float[np.ndarray, "r g"]]:
    """Blocks of rows, each with how often every group was drawn."""
    rows = max(1, BLOCK_DRAWS // groups)
    for start in range(0, draws, rows):
        many = min(rows, draws - start)
        drawn = generator.integers(0, groups, (many, groups)) + np.arange(many)[:, None] * groups
        yield np.bincount(drawn.ravel(), minlength=many * groups).reshape(many, groups).astype(np.float64)


def _grouped(samples: Samples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups in ascending order, the sum of their outcomes and the number of their queries."""
    groups, place = np.unique(samples.group.numpy(), return_inverse=True)
    values = np.bincount(place, samples.values.double().numpy(), len(groups))
    return groups, values, np.bincount(place, minlength=len(groups)).astype(np.float64)
