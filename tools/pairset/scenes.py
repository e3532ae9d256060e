"""Compose scenes from cut-outs: exact instance masks, a caption with a relation, hard negative captions."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tools.pairset.placing import SIDE, place
from tools.pairset.scene_words import COLOURS, RELATIONS, TINT, Object, negatives, sentence
from tools.pairset.shards import add, webp

PLAIN = {
    "white": (250, 250, 250),
    "light blue": (190, 220, 245),
    "light green": (205, 235, 200),
    "pale yellow": (250, 242, 200),
    "light grey": (215, 215, 215),
    "pale pink": (248, 220, 225),
}
LANCZOS = Image.Resampling.LANCZOS


class Ground(NamedTuple):
    """A background: the picture, the words for it, its key."""

    image: Image.Image
    words: str
    key: str


class Scene(NamedTuple):
    """A composed picture, its instance ids (0 = background) and what it shows."""

    image: Image.Image
    instances: Image.Image
    meta: dict[str, Any]


def _tint(image: Image.Image, colour: str) -> Image.Image:
    pixels = np.asarray(image.convert("RGBA")).astype(np.float32)
    light = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    solid = pixels[..., 3] > 30
    if solid.any():
        low, high = np.percentile(light[solid], [3, 97])
        light = np.clip((light - low) / max(high - low, 0.15), 0, 1)
    target = np.array(COLOURS[colour], np.float32)
    k = 0.35 + 0.8 * light[..., None]
    rgb = np.where(k <= 1, target * k, target + (255 - target) * (k - 1) * 2)
    mixed = np.concatenate([np.clip(rgb, 0, 255), pixels[..., 3:]], -1)
    return Image.fromarray(mixed.astype(np.uint8), "RGBA")


def _far_colour(image: Image.Image) -> str:
    pixels = np.asarray(image.convert("RGBA")).reshape(-1, 4).astype(np.float32)
    pixels = pixels[pixels[:, 3] > 128][:, :3]
    near = {
        name: float(np.mean(np.linalg.norm(pixels - np.array(value), axis=1) < 130))
        for name, value in COLOURS.items()
        if name in TINT
    }
    return min(near, key=lambda name: (round(near[name], 3), name))


def _ground(rng: random.Random, grounds: list[Ground]) -> Ground:
    if rng.random() < 0.6 and grounds:
        image, words, key = rng.choice(grounds)
        scale = SIDE / min(image.size) * rng.uniform(1.0, 1.25)
        size = (max(SIDE, round(image.width * scale)), max(SIDE, round(image.height * scale)))
        image = image.convert("RGB").resize(size, LANCZOS)
        x, y = rng.randint(0, image.width - SIDE), rng.randint(0, image.height - SIDE)
        return Ground(image.crop((x, y, x + SIDE, y + SIDE)).convert("RGBA"), words, key)
    name = rng.choice(list(PLAIN))
    image = Image.new("RGBA", (SIDE, SIDE), (*PLAIN[name], 255))
    return Ground(image, f"on a {name} background", "plain")


def _objects(rng: random.Random, picks: list[Object]) -> list[Object]:
    contrast = rng.random() < 0.4
    sizes = rng.sample([0.62, 0.28], 2) if contrast else [rng.uniform(0.36, 0.46) for _ in range(2)]
    sizes.append(0.26)
    objects: list[Object] = []
    for i, pick in enumerate(picks):
        item = {k: pick[k] for k in ("noun", "key", "category", "kind")}
        image = pick["image"].convert("RGBA")
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if pick["kind"] == "render" and pick["category"] != "characters" and rng.random() < 0.55:
            item["colour"] = rng.choice([c for c in TINT if c not in [o.get("colour") for o in objects]])
            image = _tint(image, item["colour"])
        if contrast and i < 2:
            item["size"] = "large" if sizes[i] > 0.5 else "small"
        scale = sizes[i] * SIDE / max(image.size)
        size = (max(4, round(image.width * scale)), max(4, round(image.height * scale)))
        item["_im"] = image.resize(size, LANCZOS)
        objects.append(item)
    return objects


def _paint(
    canvas: Image.Image, objects: list[Object], relation: str, rng: random.Random
) -> Image.Image | None:
    """Paint the objects on the canvas and note id, box and visible share; None when they did not fit."""
    places = place(rng, [o["_im"] for o in objects], relation)
    if places is None:
        return None
    order = [2] * (len(objects) > 2) + ([1, 0] if relation == "in front of" else [0, 1])
    ids = np.zeros((SIDE, SIDE), np.uint8)
    full = {}
    for i in order:
        image, (x, y) = objects[i]["_im"], places[i]
        if x < 0 or y < 0 or x + image.width > SIDE or y + image.height > SIDE:
            return None
        canvas.alpha_composite(image, (x, y))
        mask = np.asarray(image)[..., 3] > 110
        full[i] = int(mask.sum())
        ids[y : y + image.height, x : x + image.width][mask] = i + 1
    for i, item in enumerate(objects):
        ys, xs = np.where(ids == i + 1)
        if full[i] < 60 or len(xs) < 0.5 * full[i]:
            return None
        item["id"], item["visible"] = i + 1, round(len(xs) / full[i], 3)
        item["box"] = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        item["_far"] = _far_colour(item["_im"])
    return Image.fromarray(ids)


def compose(rng: random.Random, objects: list[Object], grounds: list[Ground]) -> Scene | None:
    """Compose one scene; None when the objects did not fit."""
    first, second = rng.sample(objects, 2)
    picks = [first, second] + ([rng.choice(objects)] if rng.random() < 0.3 else [])
    nouns = [p["noun"] for p in picks]
    if len(set(nouns)) < len(nouns) or any(x in y for x in nouns for y in nouns if x is not y):
        return None
    relation = rng.choice(list(RELATIONS))
    canvas, behind, ground_key = _ground(rng, grounds)
    items = _objects(rng, picks)
    instances = _paint(canvas, items, relation, rng)
    if instances is None:
        return None
    if relation in ("in front of", "behind"):
        back = items[1] if relation == "in front of" else items[0]
        if back["visible"] > 0.94:  # nothing hidden: the relation would not be seen
            return None
    others = [p["noun"] for p in rng.sample(objects, min(12, len(objects)))]
    wrong = negatives(rng, items, relation, behind, others)
    meta = {
        "caption": sentence(items[:2], relation, behind, items[2] if len(items) > 2 else None),
        "relation": relation,
        "background": ground_key,
        "objects": [{k: v for k, v in o.items() if not k.startswith("_")} for o in items],
        "negatives": wrong,
    }
    return Scene(canvas.convert("RGB"), instances, meta)


def compose_many(n: int, seed: str, objects: list[Object], grounds: list[Ground]) -> list[Scene]:
    """Compose ``n`` scenes, the same for the same seed."""
    rng = random.Random(seed)
    scenes: list[Scene] = []
    for _ in range(60 * n):
        if len(scenes) == n:
            break
        scene = compose(rng, objects, grounds)
        if scene:
            scenes.append(scene)
    return scenes


def write_scenes(path: str, scenes: list[Scene], prefix: str, split: str) -> int:
    """Write one shard of scenes with .inst.png masks; return their number."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    licence = "as the objects' and the background's sources; see README"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
        for i, scene in enumerate(scenes):
            key = f"{prefix}{i:05d}"
            masks = io.BytesIO()
            scene.instances.save(masks, "PNG", optimize=True)
            meta = dict(scene.meta, source="composed", licence=licence, kind="scene", split=split)
            add(shard, key + ".webp", webp(scene.image, 78))
            add(shard, key + ".inst.png", masks.getvalue())
            add(shard, key + ".txt", scene.meta["caption"].encode())
            add(shard, key + ".json", json.dumps(meta, separators=(",", ":")).encode())
    return len(scenes)
