"""The embedded splits of a set, and what a linear probe trained on them makes of the test images."""

from typing import NamedTuple

import torch
from torch import Tensor

from patchclip.contracts import BadSample
from patchclip.data.sets import Classification
from patchclip.evaluation._metrics import class_recall, label_ranks, share_within
from patchclip.evaluation.embedder import Embedder
from patchclip.evaluation.probe.examples import Examples, check_labels
from patchclip.evaluation.probe.logistic import Fitted
from patchclip.evaluation.result import Samples


class Splits(NamedTuple):
    """A set with its embedded splits.

    Attributes:
        benchmark: the test split.
        train: to learn from.
        validation: None where the set has no such split.
        test: to score, on the embedder's device like the others.
        indices: numbers of the test images in their split.
        bad: unreadable images of all splits.
    """

    benchmark: Classification
    train: Examples
    validation: Examples | None
    test: Examples
    indices: Tensor
    bad: tuple[BadSample, ...]


class Outcome(NamedTuple):
    """One trained probe on the test images.

    Attributes:
        fitted: the probe.
        chosen_on: where the strength of its regularisation comes from.
        learned: labels of the images it was trained on, in the end.
        seed: of its draw.
        ranks: of the right class of every image; ties count against the model.
        guesses: the best class of every image, the first of tied ones.
        loose: share of right guesses.
        metrics: by name.
    """

    fitted: Fitted
    chosen_on: str
    learned: Tensor
    seed: int
    ranks: Tensor
    guesses: Tensor
    loose: float
    metrics: dict[str, float]


def embed_splits(embedder: Embedder, benchmark: Classification) -> Splits | None:
    """All splits of a set, unit-length embeddings whatever the model scores by; None without a train split.

    Where the files of a split are those of the test split (an image folder with "val" for "test"), the set
    has no such split: nothing is ever chosen or trained on the images that are scored.

    Raises:
        DataError: a split without readable images, or a label outside the class names.
    """
    embedder = embedder.unit()
    own = benchmark.images.fingerprint
    others = {name: benchmark.split(name) for name in ("train", "val")}
    usable = {name: s for name, s in others.items() if s is not None and s.images.fingerprint != own}
    if "train" not in usable:
        return None
    found: dict[str, Examples] = {}
    bad: list[BadSample] = []
    for name, split in {**usable, "test": benchmark}.items():
        full = f"{benchmark.name}/{name}"
        encoded = embedder.images(split.images, full)
        labels = torch.from_numpy(split.labels)[encoded.indices]
        examples = Examples(full, encoded.embeddings.to(embedder.device), labels.to(embedder.device))
        check_labels(examples, len(benchmark.classnames))
        found[name] = examples
        bad += encoded.bad
    return Splits(*(benchmark, found["train"], found.get("val"), found["test"], encoded.indices, tuple(bad)))


def tested(fitted: Fitted, chosen_on: str, learned: Tensor, seed: int, splits: Splits) -> Outcome:
    """Ranks, guesses and metrics of a probe on the test images."""
    ranks, guesses = [], []
    for rows, scores in fitted.classifier.blocks(splits.test.features):
        ranks.append(label_ranks(scores, splits.test.labels[rows]).cpu())
        guesses.append(scores.nan_to_num(nan=-torch.inf).argmax(1).cpu())
    rank, guess, labels = torch.cat(ranks), torch.cat(guesses), splits.test.labels.cpu()
    ks = [k for k in (1, 5) if k <= len(splits.benchmark.classnames)]
    metrics = {f"lp_acc{k}": share_within(rank, k) for k in ks}
    metrics["lp_mean_per_class_recall"] = class_recall(rank, labels)[1].mean().item()
    loose = (guess == labels).double().mean().item()
    return Outcome(fitted, chosen_on, learned, seed, rank, guess, loose, metrics)


def samples(splits: Splits, outcomes: list[Outcome]) -> dict[str, Samples]:
    """Hits of every image, averaged over seeds; per-class means are weighted so that they average to it."""
    _, member, images = splits.test.labels.cpu().unique(return_inverse=True, return_counts=True)
    weight = (len(member) / (len(images) * images.double()))[member]
    found = {}
    for name in outcomes[0].metrics:
        k = 5 if name == "lp_acc5" else 1
        hits = torch.stack([(each.ranks <= k).double() for each in outcomes]).mean(0)
        values = hits * weight if name == "lp_mean_per_class_recall" else hits
        found[name] = Samples(values.float(), splits.indices)
    return found
