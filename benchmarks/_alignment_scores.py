"""What the study in alignment.py measures on a set of scenes; all in per cent."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from _alignment_sets import object_crops, scene_labels
from patchclip import Segmenter, evaluate
from patchclip.data.sets import Segmented
from patchclip.dense.inference import Inference
from patchclip.evaluation.embedder import Embedder

PROMPTS = "plain"

Row = dict[str, float]


def present(mask: np.ndarray) -> list[int]:
    """The classes that a mask shows."""
    found: list[int] = np.unique(mask[mask >= 0]).tolist()
    return found


def segmented(encoder: Any, scenes: Segmented, method: str) -> Row:
    """mIoU and pixel accuracy over all nouns of the study, and what `located` gives."""
    suite = f"segmentation:method={method.replace(';', '+')};prompts={PROMPTS}"
    [result] = evaluate(encoder, suite, datasets=[scenes])
    found = {name: 100 * result.metrics[name] for name in ("miou", "pixel_accuracy")}
    return found | located(encoder, scenes, method)


def located(encoder: Any, scenes: Segmented, method: str) -> Row:
    """Pointing (the noun's best patch has its centre on the object), and labels where the nouns are given.

    Pixels take the likeliest of their scene's own nouns. "given nouns": share of the pixels of all objects
    that take the right one, in scenes of two nouns or more; "given nouns, objects": mean of it over objects.
    """
    inference = Inference(method=method, background="none", prompts=PROMPTS)
    segmenter = Segmenter(encoder, scenes.synonyms, inference)
    hits, guessed = [], []
    for i, found in enumerate(segmenter.each([scenes.images[i] for i in range(len(scenes))])):
        mask = scenes.masks[i]
        labels = present(mask)
        for label in labels:
            x, y = found.place(int(found.scores[label].argmax()))
            hits.append(mask[int(y), int(x)] == label)
        likely = np.stack([found.probability(found.labels[label]) for label in labels])
        guessed.append(np.array(labels)[likely.argmax(0)])
    return {"pointing": 100 * float(np.mean(hits))} | given(scenes, guessed)


def given(scenes: Segmented, guessed: Iterable[np.ndarray]) -> Row:
    """How many pixels of objects are right, of scenes that show two classes or more.

    Args:
        scenes: with masks.
        guessed: the class of every pixel of each scene, or a single one for all of them.
    """
    right, areas = [], []
    for i, guess in enumerate(guessed):
        mask = scenes.masks[i]
        labels = present(mask)
        for label in labels if len(labels) > 1 else ():
            areas.append(int((mask == label).sum()))
            right.append(int(((mask == label) & (guess == label)).sum()))
    shares = np.array(right) / np.array(areas)
    return {
        "given nouns": 100 * sum(right) / sum(areas),
        "given nouns, objects": 100 * float(shares.mean()),
    }


def one_label(encoder: Any, scenes: Segmented) -> Row:
    """The class token's answer for every pixel of an image."""
    [result] = evaluate(encoder, f"segmentation:method=raw;prompts={PROMPTS}", datasets=[scenes])
    found = {name: 100 * result.details["one_label"][name] for name in ("miou", "pixel_accuracy")}
    embedder = Embedder(encoder)
    texts = embedder.prompts(scenes.synonyms)
    cosines = embedder.images(scenes.images, scenes.name).embeddings @ texts.T
    guessed = []
    for i, cosine in enumerate(cosines):
        labels = present(scenes.masks[i])
        guessed.append(np.array(labels[int(cosine[labels].argmax())]))
    return found | given(scenes, guessed)


def named(encoder: Any, scenes: Segmented, by: str, method: str = "auto") -> Row:
    """Image-level zero-shot: objects cut out of the scenes, and what whole scenes show."""
    how = "" if by == "image" else f":by=patches;method={method}"
    results = evaluate(encoder, f"classification{how}", datasets=[object_crops(scenes), scene_labels(scenes)])
    crops, labels = (result.metrics for result in results)
    return {
        "crops acc1": 100 * crops["acc1"],
        "crops acc5": 100 * crops["acc5"],
        "scenes mAP": 100 * labels["mean_average_precision"],
    }


def chance(scenes: Segmented) -> Row:
    """A random label for each pixel, of all nouns or of those given, and a random point."""
    masks = [scenes.masks[i] for i in range(len(scenes))]
    k = len(scenes.classnames)
    counts = np.sum([np.bincount(mask[mask >= 0], minlength=k) for mask in masks], axis=0)
    total = counts.sum()
    there = counts[counts > 0]
    areas = [(mask == label).mean() for mask in masks for label in present(mask)]
    several = [(len(present(mask)), (mask >= 0).sum()) for mask in masks if len(present(mask)) > 1]
    found = {
        "miou": (there / (total + (k - 1) * there)).mean(),
        "pixel_accuracy": 1 / k,
        "pointing": np.mean(areas),
        "given nouns": sum(pixels / n for n, pixels in several) / sum(pixels for _, pixels in several),
        "given nouns, objects": len(several) / sum(n for n, _ in several),
        "crops acc1": 1 / k,
        "crops acc5": min(5, k) / k,
    }
    return {name: round(100 * float(value), 2) for name, value in found.items()}


def table(seeds: Sequence[dict[str, Row]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and standard deviation of every row's columns over the seeds that have it."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(name for each in seeds for name in each):
        found = [each[name] for each in seeds if name in each]
        rows[name] = {
            key: {
                "mean": round(statistics.mean(row[key] for row in found), 2),
                "std": round(statistics.stdev(row[key] for row in found) if len(found) > 1 else 0.0, 2),
                "seeds": len(found),
            }
            for key in found[0]
        }
    return rows


def summary(scenes: Segmented, seeds: Sequence[dict[str, Row]]) -> dict[str, Any]:
    """What a set is, its chance levels, and its rows."""
    shown = [len(present(scenes.masks[i])) for i in range(len(scenes))]
    return {
        "images": len(shown),
        "objects": sum(shown),
        "several": sum(n > 1 for n in shown),
        "chance": chance(scenes),
        "table": table(seeds),
        "runs": list(seeds),
    }
