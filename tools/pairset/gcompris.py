"""Photographs and drawings of GCompris, with the licence that the README beside each image states."""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image
from tools.pairset import gcompris_words as names
from tools.pairset.fetch import fonts
from tools.pairset.images import blank, fit, svg, trim
from tools.pairset.rcc import Rights, read_rcc, rights
from tools.pairset.records import Rec, h01
from tools.pairset.words import art

ACTIVITIES = (
    "lang",
    "explore_farm_animals",
    "explore_world_animals",
    "explore_monuments",
    "categorization",
    "details",
    "babymatch",
    "memory",
)
UNKNOWN = "not stated: CC-BY-SA-4.0 or GPL-3 (see the package)"


class Meaning(NamedTuple):
    """What a picture shows; no caption: leave it out."""

    caption: str = ""
    cls: str = ""
    kind: str = "photo"


def _lesson(stem: str) -> Meaning:
    if stem in names.LESSON:
        caption = names.LESSON[stem]
    elif stem in names.COLOURS:
        caption = f"{stem} paint in a can"
    elif stem in names.NUMBERS:
        caption = f"the number {stem}"
    else:
        caption = art(stem.replace("-", " "))
    return Meaning(caption, "", "drawing")


def _category(path: str, stem: str) -> Meaning:
    folder = path.split("/images/")[-1].split("/")[0]
    base = re.sub(r"\d+$", "", stem)
    if folder == "fishes":
        return Meaning("a fish", "fish")
    if folder == "monuments":
        place = names.PLACES.get(re.sub(r"_background$", "", stem), "")
        return Meaning(place, "building")
    if folder == "renewable":
        return Meaning(*names.ENERGY[base])
    if folder in ("tools", "others"):
        word = re.sub(r"(?<=[a-z])([A-Z])", r" \1", base).lower()
        return Meaning(art(names.TOOLS.get(word, word)), "tool" if folder == "tools" else "")
    return Meaning()


def _place(stem: str) -> Meaning:
    place = names.PLACES.get(re.sub(r"_background$", "", stem), "")
    return Meaning(place, "painting", "drawing") if "paint" in place else Meaning(place, "building")


def _card(stem: str) -> Meaning:
    word = re.sub(r"^\d+_", "", stem)
    word = names.CARDS.get(word, word)
    return Meaning("" if word in names.NO_CARDS else art(word), "", "drawing")


def _meaning(activity: str, path: str) -> Meaning:
    stem, extension = os.path.splitext(posixpath.basename(path))
    photo = extension == ".webp"
    if activity == "lang" and "words_sample" in path:
        return _lesson(stem)
    if activity.startswith("explore_") and "animals" in path and photo:
        drawn = stem in ("dragon", "question")
        caption = art(stem.replace("_", " "))
        return Meaning(caption, "", "drawing") if drawn else Meaning(caption, "animal")
    if (activity == "explore_monuments" and photo) or (
        activity == "details" and stem.endswith("_background")
    ):
        return _place(stem)
    if activity == "categorization" and photo:
        return _category(path, stem)
    if activity in ("babymatch", "memory") and not photo:
        return _card(stem)
    return Meaning()


def _image(path: str, blob: bytes, side: int, font_folder: str) -> Image.Image | None:
    if path.endswith(".webp"):
        image: Image.Image | None = Image.open(io.BytesIO(blob))
    else:
        plain = gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob
        image = svg(plain.decode("utf8", "replace"), side * 2, font_folder)
    if image is None:
        return None
    cut_out = image.mode in ("RGBA", "LA", "P") and np.asarray(image.convert("RGBA"))[..., 3].min() < 250
    image = trim(image, side) if cut_out else fit(image, side)
    return None if image is None or blank(image) else image


def _captions(path: str, meaning: Meaning) -> list[str]:
    if "painting" in meaning.caption:
        return [meaning.caption]
    style = "a photo of " if meaning.kind == "photo" else "a drawing of "
    captions = [meaning.caption, style + meaning.caption]
    return captions[::-1] if meaning.kind == "photo" and h01(path, "gc") < 0.5 else captions


def gcompris(cache: str, side: int) -> Iterator[Rec]:
    """Yield the pictures whose file name says what they show."""
    for activity in ACTIVITIES:
        path = os.path.join(cache, "x/gcompris-qt-data/usr/share/gcompris-qt/rcc", activity + ".rcc")
        if os.path.exists(path):
            yield from _activity(activity, read_rcc(path), side, fonts(cache))


def _activity(activity: str, files: dict[str, bytes], side: int, font_folder: str) -> Iterator[Rec]:
    stated = rights(files)
    for path, blob in sorted(files.items()):
        if not path.endswith((".webp", ".svg", ".svgz")):
            continue
        meaning = _meaning(activity, path)
        image = _image(path, blob, side, font_folder) if meaning.caption else None
        if image is None:
            continue
        terms = stated.get(path, Rights(UNKNOWN, "", ""))
        name = activity + "_" + path.split("/resource/")[-1].rsplit(".", 1)[0]
        yield Rec(
            "gc_" + re.sub(r"[^a-z0-9]+", "_", name.lower()),
            image,
            _captions(path, meaning),
            "debian:gcompris-qt-data",
            terms.licence,
            activity,
            meaning.cls,
            meaning.kind,
            extra={k: v for k, v in (("creator", terms.creator), ("url", terms.url)) if v},
        )
