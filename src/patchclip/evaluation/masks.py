"""What a mask keeps, as pure functions of the indices it returned (and how evenly it draws them).

Letters beside those of contracts: m strategies, r repeated draws of a mask for the same images.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def share_kept(keep: Int64[Tensor, "b k"], weight: Float[Tensor, "b l"]) -> Float[Tensor, "b"]:
    """Share of a weight, spread over the patches, that lies in the kept ones.

    share = sum_{i in keep} w_i / sum_i w_i. With w = the area of the foreground in each patch it is the share
    of foreground kept; with w = edge energy, of edge energy. A mask that knows nothing keeps 1 - ratio.

    Args:
        keep: indices of the kept patches, without repeats.
        weight: at least 0.

    Returns:
        Values in [0, 1]; NaN for an image without any weight.
    """
    return weight.gather(1, keep).sum(dim=1) / weight.sum(dim=1)


def keep_probability(draws: Int64[Tensor, "r b k"], patches: int) -> Float[Tensor, "b l"]:
    """How often each patch was kept: p_i = (draws that keep patch i) / r.

    Args:
        draws: masks of the same images, drawn with different seeds.
        patches: l, the patches an image has.
    """
    r, b, _ = draws.shape
    kept = torch.zeros(r, b, patches, device=draws.device).scatter_(2, draws, 1.0)
    return kept.mean(dim=0)


def entropy_bits(probability: Float[Tensor, "b l"]) -> Float[Tensor, "b"]:
    """Mean entropy of the decision to keep a patch, in bits.

    H = mean_i [-p_i log2 p_i - (1 - p_i) log2(1 - p_i)]: 0 for a mask that is always the same, 1 for a fair
    coin a patch. Estimated from r draws it is low by up to 1 / (2 r ln 2) bits (0.02 at 32 draws).
    """
    both = torch.stack([probability, 1 - probability])
    return torch.special.entr(both).sum(dim=0).mean(dim=1) / math.log(2)


def jaccard(one: Int64[Tensor, "b k"], other: Int64[Tensor, "b j"], patches: int) -> Float[Tensor, "b"]:
    """Overlap of two kept sets: |A and B| / |A or B|, in [0, 1].

    Two independent random halves overlap by about 1/3.

    Args:
        one: kept patches, without repeats, at least one.
        other: those of another mask for the same images.
        patches: l, the patches an image has.
    """
    a, b = (torch.zeros(len(k), patches, device=k.device).scatter_(1, k, 1.0) for k in (one, other))
    return (a * b).sum(dim=1) / torch.maximum(a, b).sum(dim=1)


def overlap_matrix(draws: Sequence[Tensor], patches: int) -> Float[Tensor, "m m"]:
    """Mean Jaccard overlap of each pair of strategies, over images and draws; 1 on the diagonal.

    O_st = mean_{draw d, image} |A_s^d and A_t^(d+1)| / |A_s^d or A_t^(d+1)|: draw d of one meets draw d + 1
    of the other, since maskers with the same seed may use the same random numbers and would agree by that.

    Args:
        draws: for each strategy its kept patches [r, b, k]; k is the strategy's own.
        patches: l, the patches an image has.
    """
    overlap = torch.eye(len(draws))
    for s, one in enumerate(draws):
        for t in range(s + 1, len(draws)):
            met = draws[t].roll(-1, dims=0)
            value = jaccard(one.flatten(0, 1), met.flatten(0, 1), patches).mean()
            overlap[s, t] = overlap[t, s] = value
    return overlap


def mean_overlap(overlap: Float[Tensor, "m m"]) -> Float[Tensor, "m"]:
    """Each strategy's mean overlap with the others, its own diagonal left out; NaN if there is no other."""
    others = len(overlap) - 1
    return (overlap.sum(dim=1) - overlap.diagonal()) / others
