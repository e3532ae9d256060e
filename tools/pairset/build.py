"""Put the sources together: splits, shards, evaluation sets, counts."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from tools.pairset.clipart import openclipart
from tools.pairset.digits import digits
from tools.pairset.emoji import STYLES, Table, clear_concepts, emoji, emoji_table
from tools.pairset.gcompris import gcompris
from tools.pairset.photos import photos
from tools.pairset.records import Rec, h01
from tools.pairset.renders import furniture
from tools.pairset.scene_words import Object
from tools.pairset.scenes import Ground, Scene, compose_many, write_scenes
from tools.pairset.shards import write_set, write_shards, write_text
from tools.pairset.splits import SHIFT_STYLE, bucket, clipart_test, photo_test, render_test, unique_captions
from tools.pairset.stamps import stamps
from tools.pairset.wallpapers import wallpapers

TEMPLATES = {
    "photo": (
        "a photo of a {c}.",
        "a photo of the {c}.",
        "{c}.",
        "a picture of a {c} on a white background.",
    ),
    "emoji": ("a drawing of a {c}.", "an emoji of a {c}.", "{c}.", "a flat illustration of a {c}."),
    "render": ("a 3D render of a {c}.", "a picture of a {c}.", "{c}."),
    "clip": ("a clipart drawing of a {c}.", "a drawing of a {c}.", "{c}."),
    "digit": ("a handwritten digit {c}.", "the number {c} written by hand.", "{c}."),
}
Counts = dict[str, Any]


@dataclass(frozen=True)
class Collection:
    """Every record: emoji by style, the others by source, and the table of emoji concepts."""

    styles: dict[str, list[Rec]]
    sources: dict[str, list[Rec]]
    table: Table

    @property
    def clear(self) -> set[str]:
        """Emoji concepts fit for a test."""
        return clear_concepts([self.styles[s] for s in ("noto", "twemoji", SHIFT_STYLE)], self.table)

    def buckets(self) -> dict[str, list[Rec]]:
        """Return bucket -> records, emoji first."""
        parts: dict[str, list[Rec]] = defaultdict(list)
        for recs in [*self.styles.values(), *self.sources.values()]:
            for rec in recs:
                parts[bucket(rec)].append(rec)
        return parts


def load(cache: str) -> Collection:
    """Read every source; a key is used once, and flags are kept in one style: they look alike in all."""
    table = emoji_table(cache)
    styles = {style: list(emoji(cache, table, style, 112)) for style in STYLES}
    sources = {
        "stamps": stamps(cache, 224),
        "furniture": furniture(cache, 144),
        "gcompris": gcompris(cache, 224),
        "clipart": openclipart(cache, 168),
        "scenes": wallpapers(cache, 256),
        "digits": digits(cache),
    }
    seen: set[str] = set()
    kept: dict[str, list[Rec]] = {}
    for name, recs in sources.items():
        kept[name] = []
        for rec in recs:
            if rec.key not in seen:
                seen.add(rec.key)
                kept[name].append(rec)
    for style in styles:
        if style != "noto":
            styles[style] = [r for r in styles[style] if r.extra["group"] != "Flags"]
    return Collection(styles, kept, table)


def write_train(out: str, train: list[Rec]) -> Counts:
    """Write the training shards."""
    return {
        "pairs": write_shards(os.path.join(out, "train"), "pairs", train, "train"),
        "by_source": dict(Counter(r.source for r in train).most_common()),
        "by_kind": dict(Counter(r.kind for r in train).most_common()),
        "distinct_captions": len({c for r in train for c in r.captions}),
    }


def write_tests(out: str, parts: dict[str, list[Rec]], train: list[Rec], clear: set[str]) -> Counts:
    """Write the evaluation sets of single images."""
    test = parts["test"]
    known = {r.cls for r in train if r.key.startswith("emoji_")}
    drawn = [r for r in test if r.key.startswith("emoji_") and r.extra["concept"] in clear and r.cls in known]
    shift = [r for r in parts["shift"] if r.extra["concept"] in clear and r.cls in known]
    pair = ("twemoji", SHIFT_STYLE)
    novel = [r for r in parts["novel"] if r.extra["concept"] in clear and r.style in pair]
    objects = [r for r in test if not r.key.startswith(("emoji_", "digit_"))]
    flat = [r for r in parts["novel"] if r.style == "twemoji"]
    sets = {
        "zs_emoji": (drawn, TEMPLATES["emoji"]),
        "zs_emoji_lineart": (shift, TEMPLATES["emoji"]),
        "zs_emoji_novel": (novel, TEMPLATES["emoji"]),
        "zs_photo": (photo_test(train, test), TEMPLATES["photo"]),
        "zs_furniture": (render_test(train, test), TEMPLATES["render"]),
        "zs_clipart": (clipart_test(train, test), TEMPLATES["clip"]),
        "zs_digits": ([r for r in test if r.kind == "digit"], TEMPLATES["digit"]),
        "retrieval_mixed": (unique_captions(objects), None),
        "retrieval_emoji_novel": (unique_captions(flat), None),
    }
    return {k: write_set(os.path.join(out, "test", k), recs, texts) for k, (recs, texts) in sets.items()}


def _cut_outs(recs: list[Rec]) -> list[Object]:
    return [
        {k: getattr(r, k) for k in ("image", "noun", "kind", "key", "category")}
        for r in recs
        if r.noun and r.alpha and r.kind in ("photo", "render") and r.category != "doors and windows"
    ]


def _write_scene_set(out: str, name: str, scenes: list[Scene]) -> Counts:
    folder = os.path.join(out, "test", name)
    write_scenes(os.path.join(folder, "test", "0.tar"), scenes, name + "_", "test")
    write_text("1\n", folder, "test", "nshards.txt")
    write_text("retrieval\n", folder, "dataset_type.txt")
    kinds: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for i, scene in enumerate(scenes):
        key = f"{name}_{i:05d}"
        for kind, wrong in scene.meta["negatives"].items():
            row = {"filename": key + ".webp", "caption": scene.meta["caption"], "negative_caption": wrong}
            kinds[kind][key] = row
    for kind, rows in kinds.items():
        write_text(json.dumps(rows, indent=0), folder, "compositional", kind + ".json")
    return {"images": len(scenes), "negatives": {k: len(v) for k, v in sorted(kinds.items())}}


def write_composed(out: str, wallpaper: list[Rec], parts: dict[str, list[Rec]]) -> tuple[int, Counts]:
    """Write the composed scenes: one training shard and two evaluation sets."""
    grounds = {
        part: [
            Ground(r.image, r.extra["behind"], r.key)
            for r in wallpaper
            if r.extra["behind"] and bucket(r) == part
        ]
        for part in ("train", "test")
    }
    objects = {part: _cut_outs(parts[part]) for part in ("train", "test")}
    scenes = compose_many(1000, "train", objects["train"], grounds["train"])
    count = write_scenes(os.path.join(out, "train", "scenes-000.tar"), scenes, "scn_", "train")
    sets: Counts = {}
    for name, part in (("scenes_seen", "train"), ("scenes_unseen", "test")):
        sets[name] = _write_scene_set(out, name, compose_many(300, name, objects[part], grounds[part]))
    return count, sets


def write_translations(out: str, table: Table, stamped: list[Rec]) -> None:
    """Write the names of emoji and the captions of stamps in other languages."""
    names = {
        k: {"en": e["name"], **e["i18n"]} for k, e in sorted(table.items()) if h01(k, "concept-1") < 0.93
    }
    used = [r for r in stamped if bucket(r) in ("train", "test")]
    captions = {r.key: {"en": r.captions[0], **r.extra["i18n"]} for r in used}
    for file, texts in (
        ("emoji_names_11_languages.json", names),
        ("stamp_captions_6_languages.json", captions),
    ):
        write_text(json.dumps(texts, ensure_ascii=False, separators=(",", ":")), out, file)


def build(cache: str, out: str) -> Counts:
    """Build train/, test/ and extra/ under ``out`` from an already filled cache and return the counts."""
    collection = load(cache)
    parts, clear = collection.buckets(), collection.clear
    for folder in ("train", "test", "extra"):
        shutil.rmtree(os.path.join(out, folder), ignore_errors=True)
    # the held-out cells of unclear emoji concepts go to the training set: no test uses them
    emoji_test = [r for r in parts["test"] if r.key.startswith("emoji_")]
    train = parts["train"] + [r for r in emoji_test if r.extra["concept"] not in clear]
    counts: Counts = {"train": write_train(out, train)}
    counts["test"] = write_tests(out, parts, train, clear)
    counts["train"]["scenes"], sets = write_composed(out, collection.sources["scenes"], parts)
    counts["test"].update(sets)
    write_translations(out, collection.table, collection.sources["stamps"])
    write_shards(os.path.join(out, "extra"), "photos", list(photos(cache, 256)), "extra")
    write_text(json.dumps(counts, indent=1), out, "counts.json")
    return counts
