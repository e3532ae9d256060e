"""Zero-shot classification: every class is the mean direction of its prompts, an image takes the nearest."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip import spec
from patchclip.contracts import BadSample
from patchclip.data.sets import Benchmark, Classification, Multilabel
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation._average_precision import average_precision, expected_precision, loose_precision
from patchclip.evaluation._metrics import (
    BLOCK_SCORES,
    COSINE_TIE,
    class_recall,
    classification_chance,
    share_within,
)
from patchclip.evaluation._patches import PatchScorer, patch_reader
from patchclip.evaluation._saved import BY_PATCHES
from patchclip.evaluation._top1 import labels_of
from patchclip.evaluation._zeroshot import Judge, Predictions, confusion, predict, worst_classes
from patchclip.evaluation.embedder import Embedder
from patchclip.evaluation.result import Result, Samples

logger = logging.getLogger(__name__)

TASK = "zeroshot_classification"


@dataclass(frozen=True)
class ClassificationSuite:
    """Zero-shot classification: accuracy, recall and calibration by class names alone.

    Metrics: `acc1`, `acc5` (absent below 5 classes, where it says nothing), `mean_per_class_recall`, `ece`
    (expected calibration error, 15 bins); `mean_average_precision` for sets with several labels an image.
    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021,
        arXiv:2103.00020, section 3.1; metrics as in CLIP_benchmark 1.6. By patches: Mukhoti et al., CVPR
        2023, arXiv:2212.04994 (see evaluation/_patches.py).
    Differs: ties count as wrong; clip_benchmark leaves them to the order of `topk`, and its acc5 is NaN below
        5 classes. In the average precision a class without a right image is left out; there it counts as 0.

    Args:
        by: "image" compares image embeddings with the classes; "patches" lets each class pool the patches
            that are like it, and compares it with what it pooled.
        method: of "patches": "auto" (pacl for a model with a trained head, else naclip), or a dense method,
            its options joined by "+": naclip:std=5.

    Raises:
        ConfigError: another `by`, an unknown method, or a method where no patches are read.
    """

    by: str = "image"
    method: str = "auto"

    def __post_init__(self) -> None:
        if self.by not in ("image", "patches"):
            raise ConfigError(f"by={self.by!r} must be image or patches: what is compared with the classes")
        if self.method != "auto":
            if self.by == "image":
                raise ConfigError(f"method={self.method!r} reads patches: give by=patches, or leave it out")
            spec.build("dense", spec.inner(self.method))

    @property
    def task(self) -> str:
        """The name of the results; a method that was asked for is part of it, so that none is lost."""
        asked = "" if self.method == "auto" else "_" + re.sub(r"[^\w.=]+", "-", self.method)
        return TASK if self.by == "image" else BY_PATCHES + asked

    def results(self, embedder: Embedder, sets: Sequence[Benchmark]) -> Iterator[Result]:
        """One result for each set of images with labels.

        Raises:
            DataError: a label is outside the class names, or no image of a set can be read.
            TowerError: the model's patches cannot be read.
        """
        usable = [each for each in sets if isinstance(each, Classification | Multilabel)]
        reader = None
        if usable and self.by == "patches":
            embedder = embedder.unit()
            reader = patch_reader(embedder.encoder, spec.inner(self.method))
        for benchmark in usable:
            scorer = None if reader is None else PatchScorer(reader, embedder.classes(benchmark))
            if isinstance(benchmark, Classification):
                yield zeroshot(embedder, benchmark, scorer, self.task)
            else:
                yield multilabel(embedder, benchmark, scorer, self.task)


def zeroshot(
    embedder: Embedder, benchmark: Classification, scorer: PatchScorer | None = None, task: str = TASK
) -> Result:
    """Scores a set whose images have one label each.

    Args:
        embedder: of the model.
        benchmark: the set.
        scorer: of the images' patches with the classes; None to compare embeddings.
        task: name of the result.
    """
    count = len(benchmark.classnames)
    twice = [name for name, times in Counter(benchmark.classnames).items() if times > 1]
    if twice:
        logger.info("%s: classes of one name tie, their images count as wrong: %s", benchmark.name, twice)
    judged = _by_image(embedder, benchmark) if scorer is None else _by_patches(embedder, benchmark, scorer)
    found, labels = judged.found, judged.labels
    recalls = class_recall(found.ranks, labels)
    ks = [k for k in (1, 5) if k <= count]
    metrics = {f"acc{k}": share_within(found.ranks, k) for k in ks}
    metrics |= {"mean_per_class_recall": recalls[1].mean().item(), "ece": found.calibration.ece()}
    chance = {f"acc{k}": classification_chance(count, k) for k in ks}
    return Result(
        dataset=benchmark.name,
        task=task,
        metrics=metrics,
        chance=chance | {"mean_per_class_recall": classification_chance(count, 1)},
        images=len(labels),
        classes=count,
        bad=judged.bad,
        clip_benchmark=_theirs(metrics, found, labels, ks) if scorer is None else {},
        protocol=f"zero-shot by {len(benchmark.prompts(0))} prompts a class, {judged.words}",
        samples=_samples(found, labels, judged.indices, ks),
        details={
            "worst_classes": worst_classes(benchmark.classnames, recalls, labels, found.guesses),
            "confusion": confusion(benchmark.classnames, labels, found.guesses),
            "reliability": found.calibration.bins(),
        },
    )


@dataclass(frozen=True)
class _Judged:
    """Readable images held against their labels; unreadable ones; how it was done, in words."""

    found: Predictions
    labels: Int64[Tensor, "n"]
    indices: Int64[Tensor, "n"]
    bad: tuple[BadSample, ...]
    words: str


def _by_image(embedder: Embedder, benchmark: Classification) -> _Judged:
    classes = embedder.classes(benchmark)
    encoded = embedder.images(benchmark.images, benchmark.name)
    labels = labels_of(benchmark, encoded.indices)
    scored = embedder.scale, embedder.device, embedder.similarity.scores
    found = predict(encoded.embeddings, classes, labels, *scored)
    metric = embedder.similarity.settings().get("metric")
    words = "nearest mean text embedding" if metric is None else f"highest mean score by {metric}"
    return _Judged(found, labels, encoded.indices, encoded.bad, words)


def _by_patches(embedder: Embedder, benchmark: Classification, scorer: PatchScorer) -> _Judged:
    labels = labels_of(benchmark, torch.arange(len(benchmark)))
    judge = Judge(len(benchmark.classnames), embedder.scale)
    indices: list[Tensor] = []
    bad: list[BadSample] = []
    for part in embedder.patch_scores(benchmark.images, benchmark.name, scorer):
        judge.add(part.scores, labels[part.indices])
        indices.append(part.indices)
        bad += part.bad
    read = torch.cat(indices)
    words = f"nearest of the mean text embeddings to {scorer.reader.words}"
    return _Judged(judge.predictions(), labels[read], read, tuple(bad), words)


def multilabel(
    embedder: Embedder, benchmark: Multilabel, scorer: PatchScorer | None = None, task: str = TASK
) -> Result:
    """Scores a set whose images have any number of labels, a block of classes at a time.

    Args:
        embedder: of the model.
        benchmark: the set.
        scorer: of the images' patches with the classes; None to compare embeddings.
        task: name of the result.
    """
    ranked = _ranked(embedder, benchmark, scorer)
    each, labels = ranked.strict, ranked.labels
    known = ~each.isnan()
    if not known.any():
        raise DataError(f"{benchmark.name}: not one of its {len(labels)} images has a label: check its .npy")
    mean, theirs = each[known].mean().item(), ranked.loose.mean().item()
    differs = scorer is None and abs(theirs - mean) > 1e-6
    chance = expected_precision(len(labels), labels.sum(0)[known]).mean().item()
    worst = each.nan_to_num(nan=2.0).argsort(stable=True)[: min(5, int(known.sum()))].tolist()
    how = "zero-shot ranking of the images for each class, mean over the classes with a right image"
    return Result(
        dataset=benchmark.name,
        task=task,
        metrics={"mean_average_precision": mean},
        chance={"mean_average_precision": chance},
        images=len(labels),
        classes=len(each),
        bad=ranked.bad,
        clip_benchmark={"mean_average_precision": theirs} if differs else {},
        protocol=how if scorer is None else f"{how}; a class is compared with {scorer.reader.words}",
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


@dataclass(frozen=True)
class _Ranked:
    """Average precision of every class, NaN for those without a right image; and as clip_benchmark has it."""

    strict: Float[Tensor, "c"]
    loose: Float[Tensor, "c"]
    labels: Tensor
    bad: tuple[BadSample, ...]


def _ranked(embedder: Embedder, benchmark: Multilabel, scorer: PatchScorer | None) -> _Ranked:
    if scorer is None:
        encoded = embedder.images(benchmark.images, benchmark.name)
        indices, bad = encoded.indices, encoded.bad
        blocks = _columns(encoded.embeddings, embedder.classes(benchmark), embedder.device)
    else:  # a class ranks all images, so that all scores are needed
        parts = list(embedder.patch_scores(benchmark.images, benchmark.name, scorer))
        indices = torch.cat([part.indices for part in parts])
        bad = tuple(sample for part in parts for sample in part.bad)
        blocks = iter(
            torch.cat([part.scores for part in parts]).split(BLOCK_SCORES // len(indices) + 1, dim=1)
        )
    labels = torch.from_numpy(benchmark.labels)[indices]
    strict, loose, start = [], [], 0
    for scores in blocks:
        part = labels[:, start : start + scores.shape[1]]
        strict.append(average_precision(scores, part, COSINE_TIE))
        loose.append(loose_precision(scores, part))
        start += scores.shape[1]
    return _Ranked(torch.cat(strict), torch.cat(loose), labels, bad)


def _columns(
    images: Float[Tensor, "n e"], classes: Float[Tensor, "c e"], device: torch.device
) -> Iterator[Float[Tensor, "n b"]]:
    """Scores of all images with some classes at a time."""
    images = images.to(device)
    for some in classes.to(device).split(max(1, BLOCK_SCORES // len(images))):
        yield (images @ some.T).cpu()


def _theirs(
    metrics: dict[str, float], found: Predictions, labels: Int64[Tensor, "n"], ks: list[int]
) -> dict[str, float]:
    """What clip_benchmark gives, where that differs: ties in the order of `topk`."""
    theirs = {f"acc{k}": share_within(found.loose, k) for k in ks}
    theirs["mean_per_class_recall"] = class_recall(found.loose, labels)[1].mean().item()
    return {name: value for name, value in theirs.items() if abs(value - metrics[name]) > 1e-12}


def _samples(
    found: Predictions, labels: Int64[Tensor, "n"], indices: Int64[Tensor, "n"], ks: list[int]
) -> dict[str, Samples]:
    """Hits of every image; those of the mean per class are weighted so that their mean is the metric."""
    hits: dict[str, Float[Tensor, "n"]] = {f"acc{k}": (found.ranks <= k).float() for k in ks}
    _, member, images = labels.unique(return_inverse=True, return_counts=True)
    weight = len(labels) / (len(images) * images.double())
    hits["mean_per_class_recall"] = ((found.ranks == 1) * weight[member]).float()
    return {name: Samples(values, indices) for name, values in hits.items()}
