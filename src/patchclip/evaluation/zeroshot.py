"""Zero-shot classification: every class is the mean direction of its prompts, an image takes the nearest."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.contracts import Encoder
from patchclip.errors import DataError
from patchclip.evaluation._encode import ImageSet, encode_images, encode_texts
from patchclip.evaluation._metrics import (
    COSINE_TIE,
    class_recall,
    classification_chance,
    label_ranks,
    share_within,
)
from patchclip.evaluation._result import Result

TASK = "zeroshot_classification"
WORST_CLASSES = 5
PROMPTS_HELD = 65536


class ClassificationSet(ImageSet, Protocol):
    """Images with one label each, the names of the classes and the templates that make prompts of them."""

    @property
    def classnames(self) -> tuple[str, ...]: ...

    @property
    def templates(self) -> tuple[str, ...]: ...


def class_embeddings(
    encoder: Encoder, classnames: Sequence[str], templates: Sequence[str], batch_size: int
) -> Float[Tensor, "c e"]:
    """Unit-length class embeddings: the renormalised mean of the unit-length embeddings of its prompts.

    Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4 (prompt ensembling in embedding space).

    Args:
        encoder: the model.
        classnames: one name a class.
        templates: sentences with `{c}` (or `{}`) where the class name goes.
        batch_size: prompts a forward pass; batches run across classes.

    Returns:
        One embedding a class, in the order of `classnames`.

    Raises:
        DataError: no class name, no template, or a template without a place for the name.
    """
    for template in templates:
        if "{c}" not in template and "{}" not in template:
            raise DataError(
                f"template {template!r} has no place for the class name; write {{c}} where it goes"
            )
    if not templates or not classnames:
        raise DataError(
            f"{len(classnames)} class names and {len(templates)} templates: at least one of each is needed"
        )
    held = max(1, PROMPTS_HELD // len(templates))
    means = []
    for start in range(0, len(classnames), held):
        names = classnames[start : start + held]
        prompts = [t.replace("{c}", name).replace("{}", name) for name in names for t in templates]
        embedded = F.normalize(encode_texts(encoder, prompts, batch_size), dim=-1)
        means.append(embedded.unflatten(0, (len(names), len(templates))).mean(1))  # c e
    return F.normalize(torch.cat(means), dim=-1)


def zeroshot(
    encoder: Encoder,
    benchmark: ClassificationSet,
    batch_size: int = 128,
    on_images: Callable[[int, int], None] | None = None,
) -> Result:
    """Top-1 and top-5 accuracy and mean per-class recall without any training on the classes.

    Metrics: `acc1`, `acc5` (absent below 5 classes, where it says nothing), `mean_per_class_recall`.

    Args:
        encoder: the model.
        benchmark: images, labels, class names, templates.
        batch_size: images or prompts a forward pass.
        on_images: called with (images done, images in all).

    Returns:
        Metrics, their chance levels and the classes that went worst.

    Raises:
        DataError: no image can be read, or a label is outside the class names.
    """
    classes = len(benchmark.classnames)
    classifier = class_embeddings(encoder, benchmark.classnames, benchmark.templates, batch_size)
    encoded = encode_images(encoder, benchmark, batch_size, on_images)
    labels = torch.tensor(encoded.targets, dtype=torch.int64, device=classifier.device)
    if labels.min() < 0 or labels.max() >= classes:
        wrong = next(int(label) for label in labels if not 0 <= label < classes)
        raise DataError(
            f"{benchmark.name}: label {wrong} must be in [0, {classes - 1}]: it has {classes} class names"
        )
    scores = encoded.embeddings @ classifier.T  # b c
    ranks = label_ranks(scores, labels, COSINE_TIE)
    present, recall, counts = class_recall(ranks, labels)
    metrics = {f"acc{k}": share_within(ranks, k) for k in (1, 5) if k <= classes}
    metrics["mean_per_class_recall"] = recall.mean().item()
    chance = {f"acc{k}": classification_chance(classes, k) for k in (1, 5) if k <= classes}
    chance["mean_per_class_recall"] = classification_chance(classes, 1)
    return Result(
        dataset=benchmark.name,
        task=TASK,
        metrics=metrics,
        chance=chance,
        images=len(labels),
        classes=classes,
        bad=encoded.bad,
        model=encoder.name,
        details={"worst_classes": _worst(benchmark.classnames, scores, labels, (present, recall, counts))},
    )


def _worst(
    classnames: Sequence[str],
    scores: Float[Tensor, "b c"],
    labels: Int64[Tensor, "b"],
    recalls: tuple[Tensor, Tensor, Tensor],
) -> list[dict[str, Any]]:
    """The classes with the lowest recall (more images first), and what each was mostly taken for."""
    guesses = scores.nan_to_num(nan=-torch.inf).argmax(1)
    rows = sorted(
        zip(*(column.tolist() for column in recalls), strict=True), key=lambda r: (r[1], -r[2], r[0])
    )
    worst = []
    for label, recall, images in rows[:WORST_CLASSES]:
        mistaken = guesses[(labels == label) & (guesses != label)]
        taken, times = mistaken.unique(return_counts=True)
        found = {"class": classnames[label], "recall": recall, "images": images}
        if len(taken):
            found |= {"taken_for": classnames[int(taken[times.argmax()])], "times": int(times.max())}
        worst.append(found)
    return worst
