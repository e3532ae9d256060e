"""Scores as pure functions of tensors: ranks first, every metric is a statement about ranks.

Ties never count in the model's favour and a score that is not a number counts against it: a collapsed
model, for which everything looks alike, gets rank last everywhere instead of a lucky first place.

Letters beside those of contracts: q queries, g gallery entries.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError, DataError

BLOCK_SCORES = 1 << 24
COSINE_TIE = 1e-6
"""Cosines this close are a tie: float32 rounding alone would order the entries of a collapsed model."""


def label_ranks(
    scores: Float[Tensor, "b c"], labels: Int64[Tensor, "b"], tie: float = 0.0
) -> Int64[Tensor, "b"]:
    """Rank of the right class of every image; 1 is best.

    Formula: rank = 1 + number of other classes whose score is not strictly below the right one's;
    c + 1 where the right class's own score is not finite.

    Args:
        scores: one score a class, higher is more likely, any floating dtype.
        labels: right class of every row, in [0, c).
        tie: scores that differ by at most this are tied, >= 0.

    Returns:
        Ranks in [1, c + 1].
    """
    own = scores.gather(1, labels[:, None])
    not_below = ~(scores < own - tie)  # b c: true for the label itself, for ties and for NaN
    return torch.where(own[:, 0].isfinite(), not_below.sum(1), scores.shape[1] + 1)


def positive_ranks(
    similarity: Float[Tensor, "q g"], positive: Bool[Tensor, "q g"], tie: float = 0.0
) -> Int64[Tensor, "q"]:
    """Rank of the best right gallery entry of every query; 1 is best.

    Formula: rank = 1 + number of wrong entries whose score is not strictly below that of the best right one;
    g + 1 where no right entry has a finite score (also where a query has none).

    Args:
        similarity: query against gallery, higher is closer.
        positive: which entries are right; several a query are allowed.
        tie: scores that differ by at most this are tied, >= 0.

    Returns:
        Ranks in [1, g + 1].
    """
    usable = positive & similarity.isfinite()
    best = similarity.masked_fill(~usable, -torch.inf).amax(1, keepdim=True)
    wrong = (~(similarity < best - tie) & ~positive).sum(1)
    return torch.where(usable.any(1), wrong + 1, similarity.shape[1] + 1)


def matched_ranks(
    queries: Float[Tensor, "q e"],
    gallery: Float[Tensor, "g e"],
    query_id: Int64[Tensor, "q"],
    gallery_id: Int64[Tensor, "g"],
    top: int = 0,
) -> tuple[Int64[Tensor, "q"], Int64[Tensor, "q t"]]:
    """`positive_ranks` of unit-length embeddings, a block of queries at a time: q x g is never held whole.

    Cosines within COSINE_TIE of each other are tied.

    Args:
        queries: embeddings to search with.
        gallery: embeddings to search in.
        query_id: a gallery entry is right for a query when their ids are equal.
        gallery_id: id of every gallery entry.
        top: how many of the best entries of every query to return too (at most g are).

    Returns:
        Ranks, and the indices of the `top` best gallery entries of every query, best first.
    """
    rows = max(1, BLOCK_SCORES // max(1, len(gallery)))
    top = min(top, len(gallery))
    ranks, best = [], []
    for start in range(0, len(queries), rows):
        similarity = queries[start : start + rows] @ gallery.T
        positive = query_id[start : start + rows, None] == gallery_id
        ranks.append(positive_ranks(similarity, positive, COSINE_TIE))
        best.append(similarity.nan_to_num(nan=-torch.inf).topk(top, dim=1).indices)
    if not ranks:
        return query_id.new_zeros(0), query_id.new_zeros(0, top)
    return torch.cat(ranks), torch.cat(best)


def share_within(ranks: Int64[Tensor, "q"], k: int) -> float:
    """Share of ranks that are at most k, in [0, 1]."""
    if ranks.numel() == 0:
        raise DataError("0 ranks: a share needs at least one query; check that the data set is not empty")
    return int((ranks <= k).sum()) / ranks.numel()


def class_recall(
    ranks: Int64[Tensor, "b"], labels: Int64[Tensor, "b"]
) -> tuple[Int64[Tensor, "c"], Float[Tensor, "c"], Int64[Tensor, "c"]]:
    """The classes that have images, the share of their images ranked first, and their images (on the CPU).

    The mean of the shares is the mean per-class recall, scikit-learn's `balanced_accuracy_score`, which
    clip_benchmark takes: a class without images does not count, even where it is predicted.
    """
    if labels.numel() == 0:
        raise DataError("0 labels: recall needs at least one image; check that the data set is not empty")
    present, member, images = labels.cpu().unique(return_inverse=True, return_counts=True)
    hits = torch.zeros(len(present), dtype=torch.float64)
    hits.index_add_(0, member, (ranks == 1).cpu().double())
    return present, hits / images, images


def classification_chance(classes: int, k: int) -> float:
    """Expected top-k accuracy of guessing: k / classes.

    Raises:
        ConfigError: k is outside [1, classes].
    """
    _check_k(k, classes, "classes")
    return k / classes


def retrieval_chance(positives: Int64[Tensor, "q"], gallery: int, k: int) -> float:
    """Expected recall@k of a random order: the mean over queries of 1 - C(g - p, k) / C(g, k).

    Args:
        positives: p, right entries of every query, in [0, gallery].
        gallery: g, entries searched.
        k: in [1, gallery].

    Returns:
        Chance level in [0, 1].

    Raises:
        ConfigError: k is outside [1, gallery].
    """
    _check_k(k, gallery, "gallery entries")
    drawn = torch.arange(k, dtype=torch.float64)
    wrong_left = (gallery - positives.double().cpu()[:, None] - drawn).clamp(min=0)  # q k
    return 1.0 - (wrong_left / (gallery - drawn)).prod(1).mean().item()


def _check_k(k: int, most: int, what: str) -> None:
    if not 1 <= k <= most:
        raise ConfigError(f"k={k} must be in [1, {most}]: there are {most} {what}; choose a smaller k")
