"""Zero-shot scores of images against classes, a block of images at a time: n x c is never held."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.evaluation._calibration import Calibration
from patchclip.evaluation._metrics import BLOCK_SCORES, COSINE_TIE, label_ranks

CONFUSED = 10
"""Classes of the confusion table."""

WORST = 5


@dataclass(frozen=True)
class Predictions:
    """What a model says of every image.

    Attributes:
        ranks: of the right class, 1 is best; ties and numbers that are none count against the model.
        guesses: the best class of every image, the first of tied ones.
        loose: place of the right class where ties keep the order that `topk` gives them; TOP + 1 beyond TOP.
        calibration: how far the model's confidence is from its accuracy.
    """

    ranks: Int64[Tensor, "n"]
    guesses: Int64[Tensor, "n"]
    loose: Int64[Tensor, "n"]
    calibration: Calibration


TOP = 5


class Judge:
    """Holds scores of images against their labels, some images at a time.

    Args:
        classes: c, how many there are.
        scale: what scores are multiplied by before the softmax, > 0.
        own: a model's own scores of what is compared, in the same order; None where these are the same.
    """

    def __init__(self, classes: int, scale: float, own: Callable[[Tensor], Tensor] | None = None) -> None:
        self._top, self._scale, self._own = min(TOP, classes), scale, own
        self._calibration = Calibration(tie=COSINE_TIE * scale)
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, scores: Float[Tensor, "b c"], right: Int64[Tensor, "b"]) -> None:
        """Counts some images; `right` are their classes, on the device of the scores."""
        own = scores if self._own is None else self._own(scores)
        self._calibration.add(own * self._scale, right)
        best = scores.nan_to_num(nan=-torch.inf).topk(self._top, dim=1).indices
        hit = best == right[:, None]
        loose = torch.where(hit.any(1), hit.int().argmax(1) + 1, self._top + 1)
        ranks = label_ranks(scores, right, COSINE_TIE)
        self._found.append((ranks.cpu(), best[:, 0].cpu(), loose.cpu()))

    def predictions(self) -> Predictions:
        """What the scores say of all images so far, of which there is at least one."""
        ranks, guesses, loose = (torch.cat(parts) for parts in zip(*self._found, strict=True))
        return Predictions(ranks, guesses, loose, self._calibration)


def predict(
    images: Float[Tensor, "n e"],
    classes: Float[Tensor, "c e"],
    labels: Int64[Tensor, "n"],
    scale: float,
    device: torch.device,
    own: Callable[[Tensor], Tensor] | None = None,
) -> Predictions:
    """Compares every image with every class.

    Args:
        images: unit length, or rows of the model's similarity, on the CPU.
        classes: likewise.
        labels: right class of every image, in [0, c).
        scale: what scores are multiplied by before the softmax, > 0.
        device: where to compute.
        own: the model's own scores of inner products; None for these themselves.
    """
    classes = classes.to(device)
    rows = max(1, BLOCK_SCORES // len(classes))
    judge = Judge(len(classes), scale, own)
    for start in range(0, len(images), rows):
        scores = images[start : start + rows].to(device) @ classes.T  # b c
        judge.add(scores, labels[start : start + rows].to(device))
    return judge.predictions()


def worst_classes(
    classnames: tuple[str, ...],
    recalls: tuple[Tensor, Tensor, Tensor],
    labels: Int64[Tensor, "n"],
    guesses: Int64[Tensor, "n"],
) -> list[dict[str, Any]]:
    """The classes with the lowest recall (more images first), and what each was mostly taken for.

    Args:
        classnames: of all classes.
        recalls: as `class_recall` returns them.
        labels: right class of every image.
        guesses: predicted class of every image.
    """
    rows = sorted(
        zip(*(column.tolist() for column in recalls), strict=True), key=lambda r: (r[1], -r[2], r[0])
    )
    worst = []
    for label, recall, images in rows[:WORST]:
        mistaken = guesses[(labels == label) & (guesses != label)]
        taken, times = mistaken.unique(return_counts=True)
        found = {"class": classnames[label], "recall": recall, "images": images}
        if len(taken):
            found |= {"taken_for": classnames[int(taken[times.argmax()])], "times": int(times.max())}
        worst.append(found)
    return worst


def confusion(
    classnames: tuple[str, ...], labels: Int64[Tensor, "n"], guesses: Int64[Tensor, "n"]
) -> dict[str, Any]:
    """Counts [right class, guess] among the classes of the most frequent confusions.

    Returns:
        "classes": up to ten names; "counts": a row for each right class, with the guesses outside of these
        classes in a last column. Empty where nothing is confused.
    """
    wrong = labels != guesses
    pairs, times = torch.stack([labels[wrong], guesses[wrong]], 1).unique(dim=0, return_counts=True)
    chosen: list[int] = []
    for place in times.argsort(descending=True, stable=True).tolist():
        new = [label for label in pairs[place].tolist() if label not in chosen]
        if len(chosen) + len(new) > CONFUSED:
            break
        chosen += new
    if not chosen:
        return {}
    chosen.sort()
    counts = [[0] * (len(chosen) + 1) for _ in chosen]
    column = {label: i for i, label in enumerate(chosen)}
    for row, label in enumerate(chosen):
        found, many = guesses[labels == label].unique(return_counts=True)
        for guess, count in zip(found.tolist(), many.tolist(), strict=True):
            counts[row][column.get(guess, len(chosen))] += count
    return {"classes": [classnames[label] for label in chosen], "counts": counts}
