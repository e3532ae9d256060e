"""Zero-shot classification: every class is the mean direction of its prompts, an image takes the nearest."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from patchclip.data.sets import Benchmark, Classification, Multilabel
from patchclip.errors import DataError
from patchclip.evaluation._average_precision import average_precision, expected_precision, loose_precision
from patchclip.evaluation._metrics import (
    BLOCK_SCORES,
    COSINE_TIE,
    class_recall,
    classification_chance,
    share_within,
)
from patchclip.evaluation._top1 import labels_of
from patchclip.evaluation._zeroshot import Predictions, confusion, predict, worst_classes
from patchclip.evaluation.embedder import Embedder, EncodedImages
from patchclip.evaluation.result import Result, Samples

logger = logging.getLogger(__name__)

TASK = "zeroshot_classification"


@dataclass(frozen=True)
class ClassificationSuite:
    """Zero-shot classification: accuracy, recall and calibration by class names alone.

    Metrics: `acc1`, `acc5` (absent below 5 classes, where it says nothing), `mean_per_class_recall`, `ece`
    (expected calibration error, 15 bins); `mean_average_precision` for sets with several labels an image.
    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021,
        arXiv:2103.00020, section 3.1; metrics as in CLIP_benchmark 1.6.
    Differs: ties count as wrong; clip_benchmark leaves them to the order of `topk`, and its acc5 is NaN below
        5 classes. In the average precision a class without a right image is left out; there it counts as 0.
    """

    def results(self, embedder: Embedder, sets: Sequence[Benchmark]) -> Iterator[Result]:
        """One result for each set of images with labels.

        Raises:
            DataError: a label is outside the class names, or no image of a set can be read.
        """
        for benchmark in sets:
            if isinstance(benchmark, Classification):
                yield zeroshot(embedder, benchmark)
            elif isinstance(benchmark, Multilabel):
                yield multilabel(embedder, benchmark)


def zeroshot(embedder: Embedder, benchmark: Classification) -> Result:
    """Scores a set whose images have one label each."""
    count = len(benchmark.classnames)
    classes = embedder.classes(benchmark)
    twice = [name for name, times in Counter(benchmark.classnames).items() if times > 1]
    if twice:
        logger.info("%s: classes of one name tie, their images count as wrong: %s", benchmark.name, twice)
    encoded = embedder.images(benchmark.images, benchmark.name)
    labels = labels_of(benchmark, encoded.indices)
    found = predict(encoded.embeddings, classes, labels, embedder.scale, embedder.device)
    recalls = class_recall(found.ranks, labels)
    ks = [k for k in (1, 5) if k <= count]
    metrics = {f"acc{k}": share_within(found.ranks, k) for k in ks}
    metrics |= {"mean_per_class_recall": recalls[1].mean().item(), "ece": found.calibration.ece()}
    chance = {f"acc{k}": classification_chance(count, k) for k in ks}
    return Result(
        dataset=benchmark.name,
        task=TASK,
        metrics=metrics,
        chance=chance | {"mean_per_class_recall": classification_chance(count, 1)},
        images=len(labels),
        classes=count,
        bad=encoded.bad,
        clip_benchmark=_theirs(metrics, found, labels, ks),
        protocol=f"zero-shot by {len(benchmark.prompts(0))} prompts a class, nearest mean text embedding",
        samples=_samples(found, labels, encoded, ks),
        details={
            "worst_classes": worst_classes(benchmark.classnames, recalls, labels, found.guesses),
            "confusion": confusion(benchmark.classnames, labels, found.guesses),
            "reliability": found.calibration.bins(),
        },
    )


def multilabel(embedder: Embedder, benchmark: Multilabel) -> Result:
    """Scores a set whose images have any number of labels, a block of classes at a time."""
    encoded = embedder.images(benchmark.images, benchmark.name)
    labels = torch.from_numpy(benchmark.labels)[encoded.indices]
    each, loose = _precisions(embedder, benchmark, encoded, labels)
    known = ~each.isnan()
    if not known.any():
        raise DataError(f"{benchmark.name}: not one of its {len(labels)} images has a label: check its .npy")
    mean, theirs = each[known].mean().item(), loose.mean().item()
    chance = expected_precision(len(labels), labels.sum(0)[known]).mean().item()
    worst = each.nan_to_num(nan=2.0).argsort(stable=True)[: min(5, int(known.sum()))].tolist()
    return Result(
        dataset=benchmark.name,
        task=TASK,
        metrics={"mean_average_precision": mean},
        chance={"mean_average_precision": chance},
        images=len(labels),
        classes=len(each),
        bad=encoded.bad,
        clip_benchmark={"mean_average_precision": theirs} if abs(theirs - mean) > 1e-6 else {},
        protocol="zero-shot ranking of the images for each class, mean over the classes with a right image",
        details={
            "worst_classes": [
                {
                    "class": benchmark.classnames[i],
                    "recall": each[i].item(),
                    "images": int(labels[:, i].sum()),
                }
                for i in worst
            ]
        },
    )


def _precisions(
    embedder: Embedder, benchmark: Multilabel, encoded: EncodedImages, labels: UInt8[Tensor, "n c"]
) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Average precision of every class, NaN for those without a right image; and as clip_benchmark has it."""
    classes = embedder.classes(benchmark).to(embedder.device)
    images = encoded.embeddings.to(embedder.device)
    columns = max(1, BLOCK_SCORES // len(images))
    strict, loose = [], []
    for start in range(0, len(classes), columns):
        scores = (images @ classes[start : start + columns].T).cpu()
        part = labels[:, start : start + columns]
        strict.append(average_precision(scores, part, COSINE_TIE))
        loose.append(loose_precision(scores, part))
    return torch.cat(strict), torch.cat(loose)


def _theirs(
    metrics: dict[str, float], found: Predictions, labels: Int64[Tensor, "n"], ks: list[int]
) -> dict[str, float]:
    """What clip_benchmark gives, where that differs: ties in the order of `topk`."""
    theirs = {f"acc{k}": share_within(found.loose, k) for k in ks}
    theirs["mean_per_class_recall"] = class_recall(found.loose, labels)[1].mean().item()
    return {name: value for name, value in theirs.items() if abs(value - metrics[name]) > 1e-12}


def _samples(
    found: Predictions, labels: Int64[Tensor, "n"], encoded: EncodedImages, ks: list[int]
) -> dict[str, Samples]:
    """Hits of every image; those of the mean per class are weighted so that their mean is the metric."""
    hits: dict[str, Float[Tensor, "n"]] = {f"acc{k}": (found.ranks <= k).float() for k in ks}
    _, member, images = labels.unique(return_inverse=True, return_counts=True)
    weight = len(labels) / (len(images) * images.double())
    hits["mean_per_class_recall"] = ((found.ranks == 1) * weight[member]).float()
    return {name: Samples(values, encoded.indices) for name, values in hits.items()}
