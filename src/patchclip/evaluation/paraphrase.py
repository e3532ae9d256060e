"""Paraphrase sensitivity: the same question in other words should get the same answer."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from patchclip.data.sets import Classification, prompts
from patchclip.evaluation._metrics import classification_chance
from patchclip.evaluation._top1 import UNDECIDED, guesses, labels_of
from patchclip.evaluation.embedder import Embedder
from patchclip.evaluation.result import Result, Samples

TASK = "paraphrase"
PARAPHRASES = (
    "a picture of a {c}.",
    "an image of a {c}.",
    "this is a picture of a {c}.",
    "here you can see a {c}.",
    "the picture shows a {c}.",
    "there is a {c} in the picture.",
    "what you see here is a {c}.",
    "a {c}, shown in an image.",
)
"""One meaning in eight wordings; none names a medium (photo, drawing), so that they fit every set."""

OWN = 8
"""Templates of a set's own that are asked one by one, at most."""


def paraphrase_result(embedder: Embedder, benchmark: Classification) -> Result:
    """Zero-shot accuracy with each wording alone, and how often all wordings lead to the same class.

    Metrics: `acc1_mean`, `acc1_std` (population) and `acc1_worst` over the wordings; `agreement`, the share
    of images with the same first choice under all (an undecided choice agrees with none; a model that always
    answers the same has agreement 1: read it beside the accuracy). Where the set has several templates of its
    own, `templates_acc1_mean`, `templates_acc1_std`, `templates_acc1_worst` and `templates_agreement` are
    the same for them, at most eight, spread evenly.
    """
    encoded = embedder.images(benchmark.images, benchmark.name)
    labels = labels_of(benchmark, encoded.indices)
    metrics: dict[str, float] = {}
    samples: dict[str, Samples] = {}
    rows: list[dict[str, object]] = []
    for prefix, wordings in (("", list(PARAPHRASES)), ("templates_", own_wordings(benchmark.templates))):
        if len(wordings) < 2:
            continue
        prompted = (embedder.prompts(_prompts(benchmark, wording)) for wording in wordings)
        choices = torch.stack([guesses(encoded.embeddings, c, embedder.device) for c in prompted])  # w n
        right, same = (choices == labels).double(), agreeing(choices).double()
        each = right.mean(1)
        metrics[f"{prefix}acc1_mean"] = each.mean().item()
        metrics[f"{prefix}acc1_std"] = each.std(correction=0).item()
        metrics[f"{prefix}acc1_worst"] = each.min().item()
        metrics[f"{prefix}agreement"] = same.mean().item()
        samples[f"{prefix}acc1_mean"] = Samples(right.mean(0).float(), encoded.indices)
        samples[f"{prefix}agreement"] = Samples(same.float(), encoded.indices)
        for wording, score in zip(wordings, each.tolist(), strict=True):
            rows.append({"wording": _shown(wording), "acc1": round(score, 6), "own": bool(prefix)})
    chance = classification_chance(len(benchmark.classnames), 1)
    return Result(
        dataset=benchmark.name,
        task=TASK,
        metrics=metrics,
        chance={name: chance for name in metrics if name.endswith("acc1_mean")},
        images=len(labels),
        classes=len(benchmark.classnames),
        bad=encoded.bad,
        protocol=f"zero-shot top-1 on {len(labels)} of {len(benchmark)} images with one prompt a class, for "
        f"each of {len(rows)} wordings in turn",
        samples=samples,
        details={"wordings": rows},
    )


def agreeing(choices: Int64[Tensor, "w n"]) -> Bool[Tensor, "n"]:
    """Whether all rows choose the same for an image, and none is undecided."""
    return (choices == choices[0]).all(0) & (choices[0] != UNDECIDED)


def own_wordings(templates: Sequence[str] | Mapping[str, Sequence[str]]) -> list[str | int]:
    """A set's own templates, or the numbers of its classes' own prompts, at most `OWN`, spread evenly.

    Empty where it has one only, or where its classes differ in the number of their prompts.
    """
    every: list[str | int]
    if isinstance(templates, Mapping):
        counts = {len(own) for own in templates.values()}
        every = list(range(counts.pop())) if len(counts) == 1 else []
    else:
        every = list(dict.fromkeys(templates))
    if len(every) < 2:
        return []
    shown = min(OWN, len(every))
    return [every[(2 * i + 1) * len(every) // (2 * shown)] for i in range(shown)]


def _prompts(benchmark: Classification, wording: str | int) -> list[list[str]]:
    """One prompt for each class, in one wording."""
    if isinstance(wording, int):
        return [[benchmark.prompts(label)[wording]] for label in range(len(benchmark.classnames))]
    return [list(prompts(name, (wording,))) for name in benchmark.classnames]


def _shown(wording: str | int) -> str:
    return f"prompt {wording + 1} of each class" if isinstance(wording, int) else wording
