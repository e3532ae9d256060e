"""Scores of one trained model for the study in pretraining.py: zero-shot, retrieval, hard negatives."""

import io
import json
import statistics
import tarfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

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

    encoder = load(model, device="auto")
    found = {r.dataset: r for r in evaluate(encoder, root, [*ZERO_SHOT, UNSEEN_STYLE, RETRIEVAL])}
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
    compositional = [share_right(encoder, root / name) for name in SCENES]
    columns["metrics"]["hard negatives"] = 100 * statistics.mean(compositional)
    columns["chance"]["hard negatives"] = 50.0
    return {"scores": columns["metrics"], "chance": columns["chance"]}


def both_ways(values: dict[str, float], k: int) -> float:
    """Recall at k, mean of image and text retrieval."""
    return statistics.mean(values[f"{side}_retrieval_recall@{k}"] for side in ("image", "text"))


def share_right(encoder: Any, folder: Path) -> float:
    """Share of scenes whose right caption scores strictly above the wrong one, mean over `TYPES`."""
    images = embeddings(encoder, folder)
    shares = []
    for kind in TYPES:
        file = folder / "compositional" / f"{kind}.json"
        rows = list(json.loads(file.read_text(encoding="utf-8")).values())
        pixels = torch.stack([images[row["filename"]] for row in rows])
        right, wrong = (
            encoder.encode_text(encoder.tokenizer([row[key] for row in rows])).cpu()
            for key in ("caption", "negative_caption")
        )
        shares.append(((pixels * right).sum(1) > (pixels * wrong).sum(1)).float().mean().item())
    return statistics.mean(shares)


def embeddings(encoder: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Image embeddings of a scene set by file name."""
    names, pixels = [], []
    with tarfile.open(folder / "test" / "0.tar") as shard:
        for member in shard:
            file = shard.extractfile(member) if member.name.endswith(".webp") else None
            if file is not None:
                names.append(Path(member.name).name)
                pixels.append(encoder.preprocess(Image.open(io.BytesIO(file.read())).convert("RGB")))
    parts = [encoder.encode_image(torch.stack(pixels[i : i + 100])).cpu() for i in range(0, len(pixels), 100)]
    return dict(zip(names, torch.cat(parts), strict=True))
