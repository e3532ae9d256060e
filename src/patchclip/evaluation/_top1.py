"""First choices of images among classes, a block of images at a time: n x c is never held."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from patchclip.data.sets import Classification
from patchclip.errors import DataError
from patchclip.evaluation._metrics import BLOCK_SCORES, COSINE_TIE, label_ranks

UNDECIDED = -1
"""The guess for an image whose best classes are tied, or whose scores are not all numbers."""


def labels_of(benchmark: Classification, indices: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """Right class of some of a set's images.

    Raises:
        DataError: a label is outside the class names.
    """
    labels = torch.from_numpy(benchmark.labels)[indices]
    count = len(benchmark.classnames)
    wrong = labels[(labels < 0) | (labels >= count)]
    if len(wrong):
        raise DataError(
            f"{benchmark.name}: label {int(wrong[0])} must be in [0, {count - 1}]: it has {count} class names"
        )
    return labels


def hits(
    images: Float[Tensor, "n e"],
    classes: Float[Tensor, "c e"],
    labels: Int64[Tensor, "n"],
    device: torch.device,
) -> Bool[Tensor, "n"]:
    """Whether the right class scores higher than every other; cosines within COSINE_TIE are tied, no hit."""
    found = [
        label_ranks(s, labels[r].to(device), COSINE_TIE) == 1 for r, s in _blocks(images, classes, device)
    ]
    return torch.cat(found).cpu()


def drawn_to(
    images: Float[Tensor, "n e"],
    classes: Float[Tensor, "c e"],
    written: Int64[Tensor, "n"],
    device: torch.device,
) -> Bool[Tensor, "n"]:
    """Whether no class scores higher than the written one; ties and NaN count as drawn to it."""
    found = []
    for rows, scores in _blocks(images, classes, device):
        own = scores.gather(1, written[rows, None].to(device))
        found.append(~(scores > own + COSINE_TIE).any(1))
    return torch.cat(found).cpu()


def guesses(
    images: Float[Tensor, "n e"], classes: Float[Tensor, "c e"], device: torch.device
) -> Int64[Tensor, "n"]:
    """Best class of every image, UNDECIDED where it is tied or a score is not a number."""
    found = []
    for _, scores in _blocks(images, classes, device):
        best = scores.nan_to_num(nan=-torch.inf).topk(min(2, scores.shape[1]), dim=1)
        decided = scores.isfinite().all(1)
        if scores.shape[1] > 1:
            decided &= best.values[:, 0] - best.values[:, 1] > COSINE_TIE
        found.append(torch.where(decided, best.indices[:, 0], UNDECIDED))
    return torch.cat(found).cpu()


def _blocks(
    images: Float[Tensor, "n e"], classes: Float[Tensor, "c e"], device: torch.device
) -> Iterator[tuple[slice, Float[Tensor, "b c"]]]:
    classes = classes.to(device)
    size = max(1, BLOCK_SCORES // len(classes))
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        yield rows, images[rows].to(device) @ classes.T
