"""Distribution shift: sets that ask the same classes of other images, and how far a model falls there.

Source: Taori et al., "Measuring Robustness to Natural Distribution Shifts in Image Classification", NeurIPS
2020, arXiv:2007.00644.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from patchclip.data.sets import Classification
from patchclip.errors import DataError
from patchclip.evaluation._metrics import classification_chance
from patchclip.evaluation._top1 import hits, labels_of
from patchclip.evaluation.embedder import Embedder, EncodedImages
from patchclip.evaluation.result import Result, Samples

TASK = "distribution_shift"
IMAGENET = ("imagenet1k", "imagenet", "imagenet1kunverified", "imagenetval", "ilsvrc2012")
# fmt: off
SHIFTED_IMAGENET = (
    "imagenetv2", "imagenetv2matchedfrequency", "imagenetv2matchedfrequencyformatval", "imagenetv2topimages",
    "imagenetv2threshold0.7", "imageneta", "imagenetr", "imageneto", "imagenetw", "imagenetsketch", "sketch",
    "objectnet",
)
# fmt: on
FEWEST = 2
"""Classes that both sets must share for a comparison."""

MODELS = 3
"""Other models that effective robustness needs for its line."""


def plain(name: str) -> str:
    """A set's name without folders, the prefixes "wds_" and "vtab_", capitals, "_" and "-"."""
    last = name.lower().rstrip("/").rpartition("/")[2]
    return re.sub(r"^(wds|vtab)[_-]", "", last).replace("_", "").replace("-", "")


def is_imagenet(name: str) -> bool:
    """Whether a name is one of ImageNet-1k's."""
    return plain(name) in IMAGENET


def reference_of(shifted: Classification, sets: Sequence[Classification]) -> Classification | None:
    """The set of ordinary images that `shifted` is held against: the one that it names, else ImageNet-1k."""
    if shifted.shift_of:
        same = [each for each in sets if each is not shifted and plain(each.name) == plain(shifted.shift_of)]
    else:
        same = [each for each in sets if is_imagenet(each.name)]
    return same[0] if same else None


def shifted_sets(sets: Sequence[Classification]) -> list[Classification]:
    """The sets that are a shift of another: by `shift_of`, or by their name in the ImageNet family."""
    return [each for each in sets if each.shift_of or plain(each.name) in SHIFTED_IMAGENET]


def shared_classes(
    shifted: Sequence[str], reference: Sequence[str]
) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "c"]]:
    """The classes that both sets have, by name; case, "_" and outer blanks do not count.

    A name that the reference gives to more classes than the shifted set, as ImageNet's "missile" (657, 744)
    and "sunglasses" (836, 837), stands for the first of them: the labels of the others have no place. (Of
    these four, ImageNet-R has 657 and ImageNet-A none.) A name that the shifted set gives to two classes is
    left out. Equal lists are matched label by label, whatever the names.

    Returns:
        Labels of the shared classes in the shifted set, and for every label of the reference its place among
        them, -1 where there is none.
    """
    if tuple(shifted) == tuple(reference):
        return torch.arange(len(shifted)), torch.arange(len(shifted))
    ours, theirs = ([name.replace("_", " ").strip().casefold() for name in n] for n in (shifted, reference))
    times, known = Counter(ours), set(theirs)
    shared = [label for label, name in enumerate(ours) if times[name] == 1 and name in known]
    place = {ours[label]: i for i, label in enumerate(shared)}
    return (
        torch.tensor(shared, dtype=torch.int64),
        torch.tensor([place.pop(name, -1) for name in theirs], dtype=torch.int64),
    )


def shift_result(embedder: Embedder, shifted: Classification, reference: Classification | None) -> Result:
    """Accuracy on a shifted set beside that on the reference's images of the same classes.

    Metrics: `acc1` on the shifted set, `acc1_reference`, `drop` = acc1_reference - acc1, `relative` = acc1 /
    acc1_reference (absent where that is 0). Both sets are asked for their shared classes alone, each with
    its own prompts. Without a reference, or with fewer than two shared names, there is `acc1` over the
    shifted set's own classes alone, and the details say why.
    Differs: ImageNet-O is scored as 200-way classification, as clip_benchmark and the CLIP-PGS paper do; it
    was made for anomaly detection (Hendrycks et al. 2021, arXiv:1907.07174) and its images show none of
    these classes.
    """
    count = len(shifted.classnames)
    kept, places = torch.arange(count), torch.arange(count)
    if reference is None:
        reason = f"its reference {shifted.shift_of or 'imagenet1k'} is not among the data sets evaluated"
    else:
        kept, places = shared_classes(shifted.classnames, reference.classnames)
        reason = f"only {len(kept)} of its {count} class names are among those of {reference.name}"
    if reference is None or len(kept) < FEWEST:
        outcome, encoded = _outcome(embedder, shifted, torch.arange(count))
        return _result(
            shifted, outcome, encoded, {"acc1": _mean(outcome)}, {"reason": reason, "classes": count}
        )
    own = torch.full((count,), -1)
    own[kept] = torch.arange(len(kept))
    outcome, encoded = _outcome(embedder, shifted, own)
    ordinary, _ = _outcome(embedder, reference, places)
    metrics = {"acc1": _mean(outcome), "acc1_reference": _mean(ordinary)}
    metrics["drop"] = metrics["acc1_reference"] - metrics["acc1"]
    if metrics["acc1_reference"] > 0:
        metrics["relative"] = metrics["acc1"] / metrics["acc1_reference"]
    left_out = [name for name, place in zip(shifted.classnames, own.tolist(), strict=True) if place < 0]
    details = {
        "reference": reference.name,
        "reference_images": len(ordinary.values),
        "classes": len(kept),
        "left_out": len(left_out),
        "left_out_first": left_out[:5],
    }
    return _result(shifted, outcome, encoded, metrics, details)


def _mean(outcome: Samples) -> float:
    return outcome.values.double().mean().item()


def _outcome(
    embedder: Embedder, benchmark: Classification, places: Int64[Tensor, "c"]
) -> tuple[Samples, EncodedImages]:
    """Hits on the images of the classes that have a place >= 0, asked for these classes alone."""
    encoded = embedder.images(benchmark.images, benchmark.name)
    target = places[labels_of(benchmark, encoded.indices)]
    among = target >= 0
    if not among.any():
        raise DataError(
            f"{benchmark.name}: not one image of the {int(places.max()) + 1} classes asked for can be read"
        )
    listed = places.tolist()
    first = [listed.index(place) for place in range(max(listed) + 1)]
    classes = embedder.classes(benchmark)[torch.tensor(first)]
    images = encoded.embeddings if among.all() else encoded.embeddings[among]
    found = hits(images, classes, target[among], embedder.device)
    return Samples(found.float(), encoded.indices[among]), encoded


def _result(
    shifted: Classification,
    outcome: Samples,
    encoded: EncodedImages,
    metrics: dict[str, float],
    details: dict[str, Any],
) -> Result:
    classes = details["classes"]
    beside = f", beside {details['reference']} restricted to them" if "reference" in details else ""
    chance = classification_chance(classes, 1)
    return Result(
        dataset=shifted.name,
        task=TASK,
        metrics=metrics,
        chance={name: chance for name in ("acc1", "acc1_reference") if name in metrics},
        images=len(outcome.values),
        classes=classes,
        bad=encoded.bad,
        protocol=f"zero-shot top-1 among {classes} of {len(shifted.classnames)} classes{beside}",
        samples={"acc1": outcome},
        details=details,
    )


def logit_fit(ids: Sequence[float], shifted: Sequence[float]) -> tuple[float, float] | None:
    """Slope and intercept of the least-squares line logit(shifted) = slope * logit(id) + intercept.

    Args:
        ids: accuracy of every model on the reference.
        shifted: its accuracy on the shifted set.

    Returns:
        None where fewer than two models have both accuracies strictly between 0 and 1, or all have the same
        accuracy on the reference.
    """
    points = [(_logit(x), _logit(y)) for x, y in zip(ids, shifted, strict=True) if 0 < x < 1 and 0 < y < 1]
    if len(points) < 2:
        return None
    x_mean = math.fsum(x for x, _ in points) / len(points)
    y_mean = math.fsum(y for _, y in points) / len(points)
    spread = math.fsum((x - x_mean) ** 2 for x, _ in points)
    if spread < 1e-12:
        return None
    slope = math.fsum((x - x_mean) * (y - y_mean) for x, y in points) / spread
    return slope, y_mean - slope * x_mean


def effective_robustness(ids: Sequence[float], shifted: Sequence[float]) -> list[float | None]:
    """How far each model lies above what its accuracy on the reference predicts.

    Formula: rho = shifted - sigmoid(slope * logit(id) + intercept), the line fitted to the other models.
    Source: Taori et al. 2020, arXiv:2007.00644, section 3 (there rho = acc_2 - beta(acc_1)).
    Differs: the line is of the other models given (leave one out), since there is no fixed list of standard
    models for a data set of one's own; accuracies of exactly 0 and 1 have no logit and take no part in the
    line.

    Args:
        ids: accuracy of every model on the reference, in [0, 1].
        shifted: its accuracy on the shifted set, in [0, 1].

    Returns:
        None for a model without a logit of its `id`, or with fewer than three others to make a line of.
    """
    found: list[float | None] = []
    for i, (x, y) in enumerate(zip(ids, shifted, strict=True)):
        others = [(a, b) for j, (a, b) in enumerate(zip(ids, shifted, strict=True)) if j != i]
        usable = [(a, b) for a, b in others if 0 < a < 1 and 0 < b < 1]
        line = logit_fit([a for a, _ in usable], [b for _, b in usable]) if len(usable) >= MODELS else None
        if line is None or not 0 < x < 1 or math.isnan(y):
            found.append(None)
            continue
        found.append(y - _share(line[0] * _logit(x) + line[1]))
    return found


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _share(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))
