"""What the report shows of a segmented set beside its scores: every class, and three pictures."""

import base64
import io
import math
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image

from patchclip.data.sets import Segmented
from patchclip.evaluation import _confusion
from patchclip.evaluation._tally import Labeller, Tally, read

CLASSES_KEPT = 200
"""Of sets with more classes only the worst and best are kept."""

EACH = 20
SIDE = 224
"""Pixels of the longer side of an example's label maps."""

NAMED = 16
"""Classes of an example that are named, those with most pixels."""


def details(benchmark: Segmented, found: Tally, labeller: Labeller) -> dict[str, Any]:
    """Plain JSON: classes by IoU, one label per image, examples.

    Args:
        benchmark: the set.
        found: its scores, of at least one image with a scored pixel.
        labeller: labels the examples once more.

    Returns:
        "classes": rows with class, iou, accuracy (None where undefined), share of true and of predicted
        pixels, and what it is most often taken for; "one_label": scores; "background": its class, or None;
        "absent": classes that are neither true nor predicted; "examples": see `examples`.
    """
    counts = _confusion.counts_of(found.matrix)
    rows = classes(benchmark.classnames, found.matrix)
    known = sorted((row for row in rows if row["iou"] is not None), key=lambda row: -row["iou"])
    kept = known if len(rows) <= CLASSES_KEPT else [*known[:EACH], *known[max(EACH, len(known) - EACH) :]]
    return {
        "classes": kept,
        "background": benchmark.background,
        "absent": int((counts.true + counts.predicted == 0).sum()),
        "one_label": _confusion.scores(_confusion.counts_of(found.one_label)),
        "examples": examples(benchmark, found, labeller),
    }


def classes(names: tuple[str, ...], matrix: Int64[np.ndarray, "c c1"]) -> list[dict[str, Any]]:
    """A row for each class, in the order of the labels."""
    counts = _confusion.counts_of(matrix)
    total = max(1, int(counts.true.sum()))
    wrong = matrix[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for label, (iou, recall) in enumerate(
        zip(_confusion.ious(counts).tolist(), _confusion.recalls(counts).tolist(), strict=True)
    ):
        row = {
            "class": names[label],
            "iou": None if math.isnan(iou) else round(iou, 6),
            "accuracy": None if math.isnan(recall) else round(recall, 6),
            "pixels": round(int(counts.true[label]) / total, 6),
            "predicted": round(int(counts.predicted[label]) / total, 6),
        }
        other = int(wrong[label].argmax())
        if wrong[label, other]:
            share = int(wrong[label, other]) / int(counts.true[label])
            row |= {"taken_for": names[other], "taken_share": round(share, 6)}
        rows.append(row)
    return rows


def examples(benchmark: Segmented, found: Tally, labeller: Labeller) -> list[dict[str, Any]]:
    """The images with the highest, the middle and the lowest mean IoU of their own classes, as small PNGs.

    The background is none of these classes.

    In "mask" and "predicted", base64, a pixel's value is its class + 1, and 0 where it has none.
    """
    rows = []
    for words, row, iou in chosen(found, benchmark.background):
        again = read(benchmark, found.indices[row])
        if again.image is None or again.mask is None:
            continue
        (predicted,) = labeller([again.image])
        present, pixels = np.unique(
            np.concatenate([again.mask.ravel(), predicted.ravel()]), return_counts=True
        )
        named = [label for label in present[np.argsort(-pixels, kind="stable")].tolist() if label >= 0]
        rows.append(
            {
                "which": words,
                "image": found.indices[row],
                "iou": round(iou, 6),
                "mask": encoded(again.mask),
                "predicted": encoded(predicted),
                "classes": {str(label): benchmark.classnames[label] for label in named[:NAMED]},
            }
        )
    return rows


def chosen(found: Tally, background: int | None) -> list[tuple[str, int, float]]:
    """The images with the highest, the middle and the lowest IoU, as (which, row, IoU); none twice.

    Where all have one IoU none is the best: three, from all over the set, are said to be alike.
    """
    known = [(row, found.iou(row, background)) for row in range(len(found.counts))]
    order = sorted(
        ((row, iou) for row, iou in known if iou is not None), key=lambda each: (-each[1], each[0])
    )
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    which: dict[int, str] = {}
    for words, place in places.items() if order else ():
        which.setdefault(place, words)
    if len(order) > 1 and order[0][1] == order[-1][1]:
        which = dict.fromkeys(which, f"one of {len(order)} alike")
    return [(words, *order[place]) for place, words in which.items()]


def encoded(classes: Int64[np.ndarray, "h w"]) -> str:
    """A label map as a PNG of class + 1, at most `SIDE` pixels long, by nearest pixels."""
    small = Image.fromarray((classes + 1).astype(np.uint16 if classes.max(initial=0) > 254 else np.uint8))
    ratio = min(1.0, SIDE / max(small.size))
    width, height = (max(1, round(side * ratio)) for side in small.size)
    if ratio < 1:
        small = small.resize((width, height), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decoded(text: str) -> Int64[np.ndarray, "h w"]:
    """The label map of `encoded`: class of every pixel, -1 for none."""
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
        return np.array(image, np.int64) - 1
