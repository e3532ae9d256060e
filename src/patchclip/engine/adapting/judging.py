"""Answers before and after an adaptation: who is right, which images changed, and how sure the gain is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from patchclip.evaluation._bootstrap import differences, interval, pair
from patchclip.evaluation._metrics import BLOCK_SCORES, label_ranks
from patchclip.evaluation.result import Samples

DRAWS = 2000
SHOWN = 24
"""Changed images of each direction that are kept for the report."""

Scorer = Callable[[Float[Tensor, "b e"]], Float[Tensor, "b c"]]


@dataclass(frozen=True)
class Answers:
    """Hits and guesses of all test images, each among the classes of its group; on the CPU."""

    hits: Bool[Tensor, " n"]
    guesses: Int64[Tensor, " n"]


def answers(
    scorer: Scorer,
    features: Float[Tensor, "n e"],
    labels: Int64[Tensor, " n"],
    groups: Sequence[range],
    tie: float = 0.0,
) -> Answers:
    """What scores say of images, a block at a time; a tie is no hit.

    Args:
        scorer: embeddings to scores of all classes.
        features: of the images.
        labels: right class of each.
        groups: classes that are told apart from each other; an image's group is that of its label.
        tie: scores that differ by at most this are tied.
    """
    size = max(1, BLOCK_SCORES // (1 + max(group.stop for group in groups)))
    hits = torch.zeros(len(labels), dtype=torch.bool)
    guesses = torch.zeros(len(labels), dtype=torch.int64)
    for group in groups:
        rows = ((labels >= group.start) & (labels < group.stop)).nonzero()[:, 0]
        for places in rows.split(size):
            scores = scorer(features[places])[:, group.start : group.stop]
            ranks = label_ranks(scores, labels[places].to(scores.device) - group.start, tie)
            hits[places.cpu()] = (ranks == 1).cpu()
            best = scores.nan_to_num(nan=-torch.inf).argmax(1) + group.start
            guesses[places.cpu()] = best.cpu()
    return Answers(hits, guesses)


def gain_interval(
    before: Answers, after: Sequence[Answers], rows: Bool[Tensor, " n"]
) -> tuple[float, float] | None:
    """Ends of the 95 % interval of the gain, mean of the seeds, by draws of the images (paired bootstrap)."""
    group = rows.nonzero()[:, 0]
    values = [each.hits.double()[rows] for each in (before, *after)]
    both = pair(Samples(values[0], group), Samples(torch.stack(values[1:]).mean(0), group))
    if both is None:
        return None
    found = differences({"gain": both}, DRAWS, np.random.default_rng(0))
    return interval(found["gain"])


def changed(
    before: Answers, after: Sequence[Answers], labels: Int64[Tensor, " n"], numbers: Int64[Tensor, " n"]
) -> list[dict[str, Any]]:
    """Images whose answer is another one in more than half of the seeds, those of most seeds first.

    Returns:
        At most SHOWN that are right now and SHOWN that are wrong now: number in the set, label, guess before
        and the most frequent one after, share of seeds that are right.
    """
    share = torch.stack([each.hits.double() for each in after]).mean(0)
    guesses = torch.stack([each.guesses for each in after])
    found: list[dict[str, Any]] = []
    for right in (True, False):
        now = (share > 0.5) if right else (share < 0.5)
        rows = (now & (before.hits != right)).nonzero()[:, 0]
        order = (share[rows] if right else -share[rows]).argsort(descending=True, stable=True)
        for row in rows[order][:SHOWN].tolist():
            told = guesses[:, row][_right(after, row) == right]
            found.append(
                {
                    "image": int(numbers[row]),
                    "label": int(labels[row]),
                    "before": int(before.guesses[row]),
                    "after": int(told.mode().values),
                    "right": right,
                    "seeds": float(share[row]),
                }
            )
    return found


def _right(after: Sequence[Answers], row: int) -> Bool[Tensor, " s"]:
    """Which of the seeds answer an image right."""
    return torch.stack([each.hits[row] for each in after])


def class_rows(
    before: Answers, after: Sequence[Answers], labels: Int64[Tensor, " n"], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Name, test images and recall before and after (mean of the seeds) of each class that has images."""
    share = torch.stack([each.hits.double() for each in after]).mean(0)
    rows: list[dict[str, Any]] = []
    for label, name in enumerate(names):
        own = labels == label
        if own.any():
            was, is_now = float(before.hits[own].double().mean()), float(share[own].mean())
            found: dict[str, Any] = {"label": label, "name": name, "images": int(own.sum())}
            rows.append(found | {"before": was, "after": is_now})
    return rows
