"""Fine-tuning the small CLIP with one loss and another, and what is measured of both."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from experiments._frame import Setting, embedded, held_out, scores, trained

STEPS = 40
"""Batches of 64 pairs, learning rate 1e-4."""
PLAIN = ("loss.name=clip",)
PAIRS = 400
"""Held-out pairs that gap, alignment and uniformity are measured of."""


def tuned(setting: Setting, loss: Iterable[str] = PLAIN) -> Path:
    """Run folder of the base, fine-tuned with a loss."""
    return trained(setting, [*loss, f"train.max_steps={setting.steps(STEPS)}"])


@cache
def figures(model: Path, quick: bool) -> dict[str, float]:
    """What the experiments on these losses report of a model.

    gap         distance of the centroids of images and texts, of unit length
    raw_gap     the same of embeddings as the towers give them
    angle       mean angle of pairs, in degrees
    alignment   mean squared distance of pairs
    uniformity  mean of images' and texts'
    recall      recall@5, mean of both directions, on retrieval_mixed
    zero_shot   top-1, mean of zs_clipart and zs_emoji
    """
    from patchclip.geometry.analyses.modality_gap import ModalityGap
    from patchclip.models.towers import load

    images, captions = held_out(24 if quick else PAIRS)
    image, text = embedded(load(model).raw(), images, [some[0] for some in captions])
    gap = ModalityGap()(image, text)
    names = ["zs_clipart"] if quick else ["zs_clipart", "zs_emoji"]
    found = scores(model, "classification", names)
    right = [found[name]["acc1"] for name in names]
    return {
        "gap": gap["centroid_distance"],
        "raw_gap": float((image.mean(dim=0) - text.mean(dim=0)).norm()),
        "alignment": gap["alignment"],
        "uniformity": (gap["uniformity_image"] + gap["uniformity_text"]) / 2,
        "angle": gap["positive_angle"],
        "recall": recall(model, len(images)) if quick else retrieved(model),
        "zero_shot": sum(right) / len(right),
    }


def retrieved(model: Path) -> float:
    """Recall@5 on the shipped retrieval set, mean of both directions."""
    found = scores(model, "retrieval", ["retrieval_mixed"])["retrieval_mixed"]
    return float(found["image_retrieval_recall@5"] + found["text_retrieval_recall@5"]) / 2


def recall(model: Path, pairs: int, dims: int | None = None) -> float:
    """Recall@5 of held-out pairs, mean of both directions, of the first `dims` numbers of the embeddings."""
    from patchclip.models.towers import load

    images, captions = held_out(pairs)
    image, text = embedded(load(model), images, [some[0] for some in captions])
    image, text = (torch.nn.functional.normalize(rows[:, :dims], dim=1) for rows in (image, text))
    table = image @ text.T
    own = table.diagonal()[:, None]
    return float(torch.cat([(each > own).sum(dim=1) for each in (table, table.T)]).lt(5).float().mean())
