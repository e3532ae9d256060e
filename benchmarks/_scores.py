"""Scores of one trained model for the study in pretraining.py: zero-shot, retrieval, hard negatives."""

import statistics
from pathlib import Path

ZERO_SHOT = ("zs_emoji", "zs_emoji_novel", "zs_clipart", "zs_furniture", "zs_photo")
UNSEEN_STYLE = "zs_emoji_lineart"
RETRIEVAL = "retrieval_mixed"
SCENES = ("scenes_seen", "scenes_unseen")
TYPES = ("replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
"""Kinds of wrong captions; not add_att and add_obj, which are always longer than the right one."""


def score(model: Path, root: Path) -> dict[str, dict[str, float]]:
    """The figures of one model in per cent, and those of guessing: {"scores": ..., "chance": ...}."""
    from patchclip import load
    from patchclip.evaluation._runner import evaluate
    from patchclip.evaluation.suites.compositionality import CompositionalitySuite

    encoder = load(model, device="auto")
    sets = [*ZERO_SHOT, UNSEEN_STYLE, RETRIEVAL]
    found = {r.dataset: r for r in evaluate(encoder, "classification,retrieval", root, sets)}
    questions = evaluate(encoder, CompositionalitySuite(generated=False, kinds=TYPES), root, SCENES)
    columns = {}
    for kind in ("metrics", "chance"):
        values = {name: getattr(result, kind) for name, result in found.items()}
        columns[kind] = {
            "zero-shot top-1": 100 * statistics.mean(values[name]["acc1"] for name in ZERO_SHOT),
            "unseen style top-1": 100 * values[UNSEEN_STYLE]["acc1"],
            "unseen style top-5": 100 * values[UNSEEN_STYLE]["acc5"],
            "retrieval R@1": 100 * both_ways(values[RETRIEVAL], 1),
            "retrieval R@5": 100 * both_ways(values[RETRIEVAL], 5),
        }
        columns[kind]["hard negatives"] = 100 * statistics.mean(getattr(r, kind)["acc"] for r in questions)
    return {"scores": columns["metrics"], "chance": columns["chance"]}


def both_ways(values: dict[str, float], k: int) -> float:
    """Recall at k, mean of image and text retrieval."""
    return statistics.mean(values[f"{side}_retrieval_recall@{k}"] for side in ("image", "text"))
