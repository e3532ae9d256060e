"""How far a model's confidence is from the share of its answers that are right."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation._metrics import label_ranks


class Calibration:
    """Expected calibration error, fed a block of images at a time.

    Formula: ECE = sum_m |B_m| / n * |accuracy(B_m) - mean confidence(B_m)|, where bin m of M holds the images
    whose confidence, the largest of softmax(scores), lies in ((m - 1) / M, m / M].
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599, section 2,
        eq. 3, with M = 15.
    Differs: an image with two best classes is wrong, and one whose scores are not numbers is wrong with
        confidence 1. torchmetrics closes bins at the lower end, which matters only at k / M exactly.

    Args:
        bins: M, of equal width, at least 1.
        tie: scores that differ by at most this are tied, >= 0; in units of the scores, so COSINE_TIE times
            the scale for scaled cosines.

    Raises:
        ConfigError: less than one bin.
    """

    def __init__(self, bins: int = 15, tie: float = 0.0) -> None:
        if bins < 1:
            raise ConfigError(f"bins={bins} must be at least 1: confidences are sorted into them")
        self.tie = tie
        self._edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
        self._count = torch.zeros(bins, dtype=torch.int64)
        self._confidence = torch.zeros(bins, dtype=torch.float64)
        self._right = torch.zeros(bins, dtype=torch.float64)

    def add(self, scores: Float[Tensor, "b c"], labels: Int64[Tensor, "b"]) -> None:
        """Counts some images.

        Args:
            scores: logits, already multiplied by the model's scale, any floating dtype.
            labels: right class of every row, in [0, c), on the device of the scores.
        """
        if not len(labels):
            return
        wide = scores if scores.dtype == torch.float64 else scores.float()
        confidence = wide.softmax(1).amax(1)
        right = (label_ranks(scores, labels, self.tie) == 1) & confidence.isfinite()
        confidence = confidence.nan_to_num(nan=1.0).double().cpu()
        place = torch.bucketize(confidence, self._edges[1:-1])
        self._count += place.bincount(minlength=len(self._count))
        self._confidence.index_add_(0, place, confidence)
        self._right.index_add_(0, place, right.cpu().double())

    def ece(self) -> float:
        """Expected calibration error in [0, 1], 0 is best.

        Raises:
            DataError: no image was added.
        """
        images = int(self._count.sum())
        if not images:
            raise DataError("0 images: calibration needs at least one; check that the set is not empty")
        return ((self._right - self._confidence).abs().sum() / images).item()

    def bins(self) -> list[dict[str, Any]]:
        """The bars of a reliability diagram, lowest confidence first: plain numbers for JSON.

        Returns:
            `low` and `high` edge, `count` of images, their mean `confidence` and their `accuracy`; these two
            are None in an empty bin.
        """
        rows = zip(self._count.tolist(), self._confidence.tolist(), self._right.tolist(), strict=True)
        edges = self._edges.tolist()
        return [
            {
                "low": edges[m],
                "high": edges[m + 1],
                "count": count,
                "confidence": confidence / count if count else None,
                "accuracy": right / count if count else None,
            }
            for m, (count, confidence, right) in enumerate(rows)
        ]
