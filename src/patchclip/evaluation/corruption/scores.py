"""Accuracy under corruptions: the table of kinds and severities, and what it sums up to."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.data.sets import Classification
from patchclip.errors import DataError
from patchclip.evaluation._metrics import classification_chance
from patchclip.evaluation._top1 import hits, labels_of
from patchclip.evaluation.corruption.views import KINDS, SEVERITIES, Corruption, Framed
from patchclip.evaluation.embedder import Embedder, EncodedImages, View
from patchclip.evaluation.result import Result, Samples
from patchclip.evaluation.shift import is_imagenet

TASK = "corruption"
IMAGENET_CLASSES = 1000


def corruption_result(
    embedder: Embedder,
    benchmark: Classification,
    kinds: Sequence[str],
    severities: Sequence[int],
    indices: Sequence[int],
) -> Result:
    """Zero-shot accuracy on corrupted images, every kind at every severity, beside the same images
    uncorrupted.

    Metrics: `mean_corruption_accuracy` (mean over kinds and severities), `clean_accuracy` (framed alike, not
    corrupted), `relative_accuracy` (their ratio, absent where nothing is right); for ImageNet-1k with all
    kinds and severities also `mce`, see `mce`.

    Args:
        embedder: of the model.
        benchmark: the set.
        kinds: at least one of `KINDS`.
        severities: at least one.
        indices: images to corrupt, ascending.

    Raises:
        DataError: an image could be read once and not again.
    """
    classes = embedder.classes(benchmark)
    clean = embedder.images(benchmark.images, benchmark.name, Framed(), indices)
    labels = labels_of(benchmark, clean.indices)

    def outcome(view: View) -> Float[Tensor, "n"]:
        found = embedder.images(benchmark.images, benchmark.name, view, indices)
        _check_same(benchmark.name, clean, found)
        return hits(found.embeddings, classes, labels, embedder.device).float()

    each = torch.stack([torch.stack([outcome(Corruption(k, s)) for s in severities]) for k in kinds])
    table = each.double().mean(2)  # kinds x severities
    unharmed = hits(clean.embeddings, classes, labels, embedder.device).float()
    chance = classification_chance(len(classes), 1)
    return Result(
        dataset=benchmark.name,
        task=TASK,
        metrics=_metrics(benchmark, table, unharmed.double().mean().item(), kinds, severities),
        chance=dict.fromkeys(("mean_corruption_accuracy", "clean_accuracy"), chance),
        images=len(labels),
        classes=len(classes),
        bad=clean.bad,
        protocol=f"zero-shot top-1 on {len(labels)} of {len(benchmark)} images, {len(kinds)} kinds of "
        f"corruption at severities {', '.join(map(str, severities))}",
        samples={
            "mean_corruption_accuracy": Samples(each.mean((0, 1)), clean.indices),
            "clean_accuracy": Samples(unharmed, clean.indices),
        },
        details={
            "severities": list(severities),
            "acc1": {k: [round(a, 6) for a in row] for k, row in zip(kinds, table.tolist(), strict=True)},
        },
    )


def _metrics(
    benchmark: Classification,
    table: Float[Tensor, "k s"],
    clean: float,
    kinds: Sequence[str],
    severities: Sequence[int],
) -> dict[str, float]:
    mean = table.mean().item()
    metrics = {"mean_corruption_accuracy": mean, "clean_accuracy": clean}
    if clean > 0:
        metrics["relative_accuracy"] = mean / clean
    whole = set(kinds) == set(KINDS) and set(severities) == set(SEVERITIES)
    if whole and is_imagenet(benchmark.name) and len(benchmark.classnames) == IMAGENET_CLASSES:
        metrics["mce"] = mce(dict(zip(kinds, table.mean(1).tolist(), strict=True)))
    return metrics


def mce(accuracies: dict[str, float]) -> float:
    """Mean corruption error: the mean over the 15 kinds of (1 - accuracy) / AlexNet's error; 1 is AlexNet.

    Source: Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4 (there in percent); AlexNet's errors as
        published with ImageNet-C.

    Args:
        accuracies: mean over the five severities, for each kind of `KINDS`.
    """
    return sum((1 - accuracies[kind]) / KINDS[kind].alexnet for kind in KINDS) / len(KINDS)


def _check_same(name: str, clean: EncodedImages, found: EncodedImages) -> None:
    if not torch.equal(clean.indices, found.indices):
        raise DataError(
            f"{name}: {len(clean.indices)} images could be read at first and {len(found.indices)} later; "
            "nothing must change the data set while it is evaluated"
        )
