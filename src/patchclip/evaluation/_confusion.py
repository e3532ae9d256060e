"""Scores of label maps as pure functions of one confusion matrix over a whole set.

Letters beside those of contracts: m images. Rows of a matrix are true classes, columns predicted ones; one
further column counts pixels that got no class at all, which are wrong in every class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64

from patchclip.errors import DataError
from patchclip.evaluation.result import Samples

IGNORED = -1
"""Class of a pixel that is not scored; as a prediction, no class."""


@dataclass(frozen=True)
class Counts:
    """What the metrics are made of: pixels of each class, over any number of images.

    Attributes:
        hits: pixels of a class that were given it.
        predicted: scored pixels that were given it.
        true: scored pixels of it.
    """

    hits: Int64[np.ndarray, "*c"]
    predicted: Int64[np.ndarray, "*c"]
    true: Int64[np.ndarray, "*c"]


def confusion(
    true: Int64[np.ndarray, "h w"], predicted: Int64[np.ndarray, "ph pw"], classes: int
) -> Int64[np.ndarray, "c c1"]:
    """The confusion matrix of one image; those of a set are summed.

    Formula: n_tp = #{pixels of true class t >= 0 that were predicted as p}; p = c where they got no class.

    Args:
        true: class of every pixel in [0, c), or -1 where it is not scored.
        predicted: class of every pixel in [0, c), or -1 for none; of the mask's size.
        classes: c.

    Returns:
        Counts of pixels [c, c + 1].

    Raises:
        DataError: maps of two sizes, or a value outside its range.
    """
    if true.shape != predicted.shape:
        raise DataError(
            f"a mask of {_size(true)} and a prediction of {_size(predicted)} px must be of one size: masks "
            "are never resized"
        )
    for what, found in (("mask", true), ("prediction", predicted)):
        if found.size and not (found.min() >= IGNORED and found.max() < classes):
            raise DataError(
                f"a {what} holds {found.min()} to {found.max()}; {classes} classes are 0 to {classes - 1}, "
                "and -1"
            )
    scored = true != IGNORED
    columns = np.where(predicted[scored] == IGNORED, classes, predicted[scored])
    pairs = true[scored] * (classes + 1) + columns
    return np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def counts_of(matrix: Int64[np.ndarray, "c c1"]) -> Counts:
    """Hits, predicted and true pixels of every class."""
    return Counts(matrix.diagonal().copy(), matrix[:, :-1].sum(0), matrix.sum(1))


def ious(counts: Counts) -> Float64[np.ndarray, "*c"]:
    """Intersection over union of every class, NaN where it is neither true nor predicted anywhere.

    Formula: IoU_c = hits_c / (predicted_c + true_c - hits_c).
    Source: Everingham et al., The Pascal Visual Object Classes Challenge: A Retrospective, IJCV 2015, section
        4.4 (segmentation); over the whole set, as mmsegmentation's IoUMetric.
    """
    return _ratio(counts.hits, counts.predicted + counts.true - counts.hits)


def recalls(counts: Counts) -> Float64[np.ndarray, "*c"]:
    """Share of every class's pixels that were given it, NaN where it has none."""
    return _ratio(counts.hits, counts.true)


def scores(counts: Counts) -> dict[str, float]:
    """mIoU, pixel accuracy and mean class accuracy, all in [0, 1].

    Formula: miou = nanmean_c IoU_c; pixel_accuracy = sum_c hits_c / sum_c true_c; mean_class_accuracy =
    nanmean_c hits_c / true_c. A class that is absent from masks and predictions is in no mean; one that is
    absent from the masks and predicted is 0 in the mIoU.

    Raises:
        DataError: not one pixel is scored.
    """
    if not counts.true.sum():
        raise DataError("no pixel has a class: every pixel of every mask is left out of the scores")
    return {
        "miou": float(np.nanmean(ious(counts))),
        "pixel_accuracy": float(counts.hits.sum() / counts.true.sum()),
        "mean_class_accuracy": float(np.nanmean(recalls(counts))),
    }


def chance(true: Int64[np.ndarray, "c"]) -> dict[str, float]:
    """What a uniformly random label for each pixel scores, in the limit of many pixels.

    Formula: with n_c pixels of class c, n in all and k classes, hits are n_c / k and predictions n / k, so
    IoU_c = n_c / (n + (k - 1) n_c); both accuracies are 1 / k.
    A class that is in no mask is one of the k and counts with 0, since a random label predicts it; a model
    that never predicts it has it in no mean (`scores`). On a set with classes in no mask the two mIoU are
    therefore means over different numbers of classes.

    Args:
        true: pixels of each class, at least one pixel in all.
    """
    k, total = len(true), true.sum()
    each = true / (total + (k - 1) * true)
    return {"miou": float(each.mean()), "pixel_accuracy": 1 / k, "mean_class_accuracy": 1 / k}


def samples(each: Sequence[Counts], indices: Sequence[int]) -> dict[str, Samples]:
    """The metrics image by image, so that their means are the metrics: linear in the images' counts.

    Formula: a metric is a mean of ratios R_c = A_c / B_c of sums over m images. Image i stands for
    mean_c [R_c + m (a_ic - R_c b_ic) / B_c]: the first-order change of the metric with the weight of the
    image. The terms in brackets sum to 0 over the images, so the mean over i is mean_c R_c.
    Source: Jaeckel, The Infinitesimal Jackknife, Bell Labs 1972; Efron and Tibshirani, An Introduction to the
        Bootstrap, 1993, section 22.4 (influence values in place of re-evaluation).
    Differs: a bootstrap of the matrix itself would let a class of one image vanish from a draw and from its
        mean; here it stays with its linear part.

    Args:
        each: counts [c] of every image.
        indices: number of every image in its set, unique.

    Returns:
        Samples of miou, pixel_accuracy and mean_class_accuracy.
    """
    hits, predicted, true = (
        np.stack([getattr(counts, name) for counts in each]) for name in ("hits", "predicted", "true")
    )
    parts = {
        "miou": (hits, predicted + true - hits),
        "pixel_accuracy": (hits.sum(1, keepdims=True), true.sum(1, keepdims=True)),
        "mean_class_accuracy": (hits, true),
    }
    group = torch.tensor(list(indices), dtype=torch.int64)
    return {
        name: Samples(torch.from_numpy(_influence(above, below)).float(), group)
        for name, (above, below) in parts.items()
    }


def _influence(above: Int64[np.ndarray, "m c"], below: Int64[np.ndarray, "m c"]) -> Float64[np.ndarray, "m"]:
    whole = below.sum(0)
    known = whole > 0
    above, below, whole = above[:, known], below[:, known], whole[known]
    ratio = above.sum(0) / whole
    values: Float64[np.ndarray, "m"] = (ratio + len(above) * (above - ratio * below) / whole).mean(1)
    return values


def _ratio(above: Int64[np.ndarray, "*c"], below: Int64[np.ndarray, "*c"]) -> Float64[np.ndarray, "*c"]:
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)


def _size(found: Int64[np.ndarray, "h w"]) -> str:
    return f"{found.shape[1]} x {found.shape[0]}"
