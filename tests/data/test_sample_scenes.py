"""The shipped scenes: masks, relations, and wrong captions that nobody tells without looking."""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from math import log

import numpy as np
import pytest
from PIL import Image

from tests.data._samples import ROOT, SETS, load, meta

MIRRORED = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att")
ADDED = ("add_obj", "add_att")


@cache
def questions(kind: str) -> list[tuple[str, str, str]]:
    """Return (key, right caption, wrong caption) of each question of a kind."""
    rows = json.loads((ROOT / "test" / "scenes" / "compositional" / f"{kind}.json").read_text())
    assert list(rows) == [str(n) for n in range(len(rows))]
    return [(r["filename"].removesuffix(".webp"), r["caption"], r["negative_caption"]) for r in rows.values()]


@cache
def bigrams() -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Return how often words, and pairs of words, occur in the training captions and those of the scenes."""
    words: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for name in ("train", "scenes"):
        for sample in load(name).values():
            text = ["<s>", *sample["txt"].decode().lower().replace(",", " ,").split(), "</s>"]
            words.update(text[:-1])
            pairs.update(pairwise(text))
    return words, pairs


def likelihood(caption: str) -> float:
    words, pairs = bigrams()
    text = ["<s>", *caption.lower().replace(",", " ,").split(), "</s>"]
    return sum(log((pairs[a, b] + 0.1) / (words[a] + 0.1 * len(words))) for a, b in pairwise(text))


def blind(kind: str, score: Callable[[str], float]) -> float:
    """Return the share of questions that a score of the caption alone answers, ties by half."""
    gaps = [score(right) - score(wrong) for _, right, wrong in questions(kind)]
    return float(np.mean([0.5 if abs(gap) < 1e-9 else gap > 0 for gap in gaps]))


@pytest.mark.parametrize("kind", MIRRORED)
def test_nobody_answers_a_mirrored_kind_without_looking(kind: str) -> None:
    asked = Counter((right, wrong) for _, right, wrong in questions(kind))
    assert asked == Counter((wrong, right) for right, wrong in asked.elements())
    assert len(questions(kind)) >= 90
    for score in (lambda text: -len(text), lambda text: -len(text.split()), likelihood):
        assert blind(kind, score) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ADDED)
def test_an_added_word_makes_a_caption_longer(kind: str) -> None:
    assert len(questions(kind)) >= 60
    assert blind(kind, lambda text: -len(text)) == 1.0


def test_questions_are_about_scenes_and_their_captions() -> None:
    folder = ROOT / "test" / "scenes" / "compositional"
    assert {path.stem for path in folder.iterdir()} == {*MIRRORED, *ADDED}
    for kind in (*MIRRORED, *ADDED):
        for key, right, wrong in questions(kind):
            assert load("scenes")[key]["txt"].decode() == right
            assert wrong != right


def holds(relation: str, ids: np.ndarray, objects: list[dict]) -> bool:
    """Tell from the mask, the boxes and the visible shares whether a relation is true."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = objects[0]["box"], objects[1]["box"]
    first, second = (np.argwhere(ids == n).mean(0) for n in (1, 2))
    return {
        "to the left of": x1 <= u0 and first[1] < second[1],
        "to the right of": u1 <= x0 and first[1] > second[1],
        "above": y1 <= v0 and first[0] < second[0],
        "below": v1 <= y0 and first[0] > second[0],
        "in front of": objects[0]["visible"] == 1 > objects[1]["visible"],
        "behind": objects[1]["visible"] == 1 > objects[0]["visible"],
    }[relation]


def test_masks_and_relations_of_scenes_are_those_of_their_captions() -> None:
    tested = {key for name in SETS if name != "scenes" for key in load(name)}
    for key, sample in load("scenes").items():
        told, ids = meta(sample), np.asarray(Image.open(io.BytesIO(sample["inst.png"])))
        objects, caption = told["objects"], sample["txt"].decode()
        assert ids.shape == (224, 224), key
        assert set(np.unique(ids)) == set(range(len(objects) + 1)), key
        for thing in objects:
            ys, xs = np.where(ids == thing["id"])
            assert thing["box"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], key
            assert f"{thing.get('attribute', '')} {thing['noun']}".strip() in caption, key
            assert 0.5 <= thing["visible"] <= 1, key
            assert thing["sample"] in tested, key
        assert f" {told['relation']} " in caption, key
        assert holds(told["relation"], ids, objects), key


def test_masks_of_scenes_end_where_their_objects_end() -> None:
    seen: dict[str, list[float]] = defaultdict(list)
    for sample in load("scenes").values():
        if "background" in meta(sample):
            continue
        pixels = np.asarray(Image.open(io.BytesIO(sample["webp"])).convert("RGB")).astype(int)
        ids = np.asarray(Image.open(io.BytesIO(sample["inst.png"]))) > 0
        near = sum(np.roll(ids, shift, (0, 1)) for shift in ((0, 2), (2, 0), (0, -2), (-2, 0)))
        changed = np.abs(pixels - np.median(pixels[~ids], 0)).max(-1) > 24
        seen["outside"].append(changed[(near == 0) & ~ids].mean())
        seen["inside"].append(changed[(near == 4) & ids].mean())
    assert len(seen["inside"]) > 100
    assert max(seen["outside"]) < 0.01
    assert np.mean(seen["inside"]) > 0.95
