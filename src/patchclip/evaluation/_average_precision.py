"""Average precision of every class: how well its images come before all others."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def average_precision(
    scores: Float[Tensor, "n c"], labels: Shaped[Tensor, "n c"], tie: float = 0.0
) -> Float[Tensor, "c"]:
    """Mean over a class's images of the precision at each: the share of its images among those not below it.

    Formula: AP = 1/P * sum_j j / (j + w_j), with P images of the class, the j-th of them by score, and w_j
    images of other classes whose score is not strictly below that one's.
    Source: as clip_benchmark 1.6.2 computes it (metrics/zeroshot_classification.py); without ties also
        scikit-learn's `average_precision_score`. Pascal VOC 2007 itself interpolates at 11 recalls.
    Differs: a class without images is NaN, so that a mean can leave it out; clip_benchmark counts it as 0.
        Ties stand in the worst order; clip_benchmark leaves them to `torch.sort`, scikit-learn gives tied
        images the precision at the end of the tie.

    A score that is not finite counts against the model: an image of the class comes last, another one first.
    It holds a few n x c arrays, so call it for a block of classes at a time.

    Args:
        scores: of every image for every class, higher is more likely, any floating dtype.
        labels: not 0 where the image shows the class.
        tie: scores that differ by at most this are tied, >= 0.

    Returns:
        Average precision in [0, 1], NaN for a class without images; float64, on the CPU.
    """
    shown = labels != 0
    scores = scores if scores.dtype == torch.float64 else scores.float()
    lowered = torch.where(scores.isfinite(), scores - tie, -torch.inf)
    key = torch.where(shown, lowered, scores.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf))
    others_first = shown.byte().argsort(dim=0, stable=True)
    order = key.gather(0, others_first).argsort(dim=0, descending=True, stable=True)
    hits = shown.gather(0, others_first).gather(0, order).cpu()  # n c
    place = torch.arange(1, len(hits) + 1, dtype=torch.float64)[:, None]
    precision = hits.cumsum(0).double().div_(place)
    return (precision * hits).sum(0) / hits.sum(0)


def loose_precision(scores: Float[Tensor, "n c"], labels: Shaped[Tensor, "n c"]) -> Float[Tensor, "c"]:
    """Average precision of every class with ties in the order of `torch.sort`; 0 for one without images.

    It is what clip_benchmark 1.6.2 gives for the same scores.
    """
    shown = labels != 0
    order = torch.stack([column.sort(0, True).indices for column in scores.cpu().unbind(1)], 1)
    hits = shown.cpu().gather(0, order)
    place = torch.arange(1, len(hits) + 1, dtype=torch.float64)[:, None]
    return ((hits.cumsum(0).double() / place) * hits).sum(0) / hits.sum(0).clamp(min=1)


def expected_precision(images: int, shown: Shaped[Tensor, "c"]) -> Float[Tensor, "c"]:
    """Average precision of a random order of n images of which P show the class.

    Formula: (P - 1) / (n - 1) + (n - P) / (n (n - 1)) * H_n, with the harmonic number H_n.
    """
    shown = shown.double()
    if images == 1:
        return shown
    harmonic = (1 / torch.arange(1, images + 1, dtype=torch.float64)).sum()
    return (shown - 1) / (images - 1) + (images - shown) / (images * (images - 1)) * harmonic
