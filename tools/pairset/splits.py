"""Decide which image goes where, by hashes of keys: no generator, no order."""

from __future__ import annotations

from collections import Counter

from tools.pairset.records import Rec, h01

SHIFT_STYLE = "openmoji"
COARSE = {"animal", "food", "plant", "household object", "scene", "holiday object"}


def bucket(rec: Rec) -> str:
    """Return train, test, shift, novel (concept never trained on), reserved or unused."""
    if rec.key.startswith("emoji_"):
        return _emoji_bucket(rec)
    if rec.kind == "digit":
        place = h01(rec.key, "digit-1")
        return (
            "train" if place < 0.2 else "test" if place < 0.28 else "reserved" if place < 0.36 else "unused"
        )
    group = rec.key
    if rec.key.startswith("clip_"):
        group = rec.extra["title"]
    elif rec.cls == "building" and rec.key.startswith("gc_"):
        group = min(rec.captions)
    place = h01(group, "split-1")
    train, test = (0.60, 0.80) if rec.kind == "photo" else (0.78, 0.90)
    return "train" if place < train else "test" if place < test else "reserved"


def _emoji_bucket(rec: Rec) -> str:
    place = h01(rec.extra["concept"], "concept-1")
    if place >= 0.93:
        return "reserved"
    if place >= 0.86:
        return "novel"
    if rec.style == SHIFT_STYLE:
        return "shift"
    return "test" if h01(rec.key, "cell-1") >= 0.86 else "train"


def unique_captions(recs: list[Rec]) -> list[Rec]:
    """Keep the records whose first caption no other one has."""
    count = Counter(r.captions[0].lower() for r in recs)
    return [r for r in recs if count[r.captions[0].lower()] == 1]


def photo_test(train: list[Rec], test: list[Rec]) -> list[Rec]:
    """Keep the test photographs of classes with at least 2 test and 3 training photographs."""
    photos = [r for r in test + train if r.kind == "photo" and r.cls]
    in_test = Counter(r.cls for r in photos if bucket(r) == "test")
    in_train = Counter(r.cls for r in photos if bucket(r) == "train")
    good = {c for c in in_test if in_test[c] >= 2 and in_train[c] >= 3} - COARSE
    return [r for r in test if r.kind == "photo" and r.cls in good]


def render_test(train: list[Rec], test: list[Rec]) -> list[Rec]:
    """Keep the test renders of classes with at least 4 training renders."""
    count = Counter(r.cls for r in train if r.kind == "render")
    return [r for r in test if r.kind == "render" and count[r.cls] >= 4]


def clipart_test(train: list[Rec], test: list[Rec]) -> list[Rec]:
    """Keep the test clipart of classes with at least 4 training drawings, and fewer flags."""
    count = Counter(r.cls for r in train if r.key.startswith("clip_") and r.cls)
    kept = [r for r in test if r.key.startswith("clip_") and count.get(r.cls, 0) >= 4]
    return [r for r in kept if r.cls != "flag" or h01(r.key, "f") < 0.4]
