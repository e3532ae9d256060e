"""Cut-out photographs and drawings of the Tux Paint stamps, with captions in several languages."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

from PIL import Image
from tools.pairset.fetch import fonts
from tools.pairset.images import blank, svg, tones, trim
from tools.pairset.records import Rec
from tools.pairset.words import art, noun_of, words

CLASSES = (
    ("animals/birds", "bird"),
    ("animals/fish", "fish"),
    ("animals/insects", "insect"),
    ("animals/mammals/cats", "big cat"),
    ("animals/mammals/dogs", "dog"),
    ("animals/mammals/bears", "bear"),
    ("animals/mammals/equines", "horse"),
    ("animals/mammals/bovines", "cattle or goat"),
    ("animals/mammals/rodents", "rodent"),
    ("animals/mammals/aquatic", "sea mammal"),
    ("animals/mammals/deer", "deer"),
    ("animals/", "animal"),
    ("food/fruit", "fruit"),
    ("food/vegetables", "vegetable"),
    ("food", "food"),
    ("plants/flowers", "flower"),
    ("plants/trees", "tree"),
    ("plants/mushrooms", "mushroom"),
    ("plants", "plant"),
    ("hobbies/music", "musical instrument"),
    ("household/tools", "tool"),
    ("household/dishes", "dish or cup"),
    ("household/electronics", "electronic device"),
    ("household", "household object"),
    ("clothes/hats", "hat"),
    ("clothes", "clothing"),
    ("vehicles/ship", "ship"),
    ("vehicles/flight", "aircraft"),
    ("vehicles", "vehicle"),
    ("military/vehicles", "vehicle"),
    ("space", "planet or moon"),
    ("town/roadsigns", "road sign"),
    ("town/houses", "house"),
    ("town/flags", "flag"),
    ("town", "building"),
    ("sports", "sports equipment"),
    ("seasonal", "holiday object"),
    ("people", "person"),
    ("symbols", "symbol"),
    ("medical", "medical object"),
)
NO_PHOTO = words(
    "cartoon clothes seasonal/easter seasonal/christmas newyears food/pizza jackolantern symbols "
    "flags toys plastic naturalforces hanukkah people roadsigns"
)
I18N = ("de", "fr", "es", "ja", "ru")


def _skip(path: str, relative: str) -> bool:
    stem = path[:-4]
    if re.search(r"_(mirror|flip)$", stem) or not os.path.exists(stem + ".txt"):
        return True
    if "symbols/alphabets" in relative and "asl" not in relative and "english/filled" not in relative:
        return True
    return path.endswith(".svg") and os.path.exists(stem + ".png")


def _read(path: str) -> str:
    with open(path, encoding="utf8", errors="replace") as text:
        return text.read()


def _captions(caption: str, noun: str, cls: str, photo: bool) -> list[str]:
    style = "a photo of " if photo else "a drawing of "
    captions = [caption]
    if noun:
        captions += [style + art(noun), style + art(noun) + " on a white background"]
    if photo and noun and cls and cls not in noun and cls not in ("food", "animal"):
        captions.append(style + art(noun) + ", a kind of " + cls)
    return captions


def stamps(cache: str, side: int) -> Iterator[Rec]:
    """Yield the stamps that have a caption."""
    root = os.path.join(cache, "x", "tuxpaint-stamps-default", "usr/share/tuxpaint/stamps") + "/"
    paths = glob.glob(root + "**/*.png", recursive=True) + glob.glob(root + "**/*.svg", recursive=True)
    for path in sorted(paths):
        relative, png = path[len(root) : -4], path.endswith(".png")
        if _skip(path, relative):
            continue
        lines = _read(path[:-4] + ".txt").splitlines()
        caption = lines[0].strip() if lines else ""
        short_sign = "symbols/math/" in relative and "operators" not in relative and len(caption) < 3
        if not caption or short_sign:
            continue
        found = (re.match(r"^([a-z]{2}(?:_[A-Z]{2})?)\.utf8=(.+)$", line) for line in lines[1:])
        i18n = {m[1]: m[2].strip() for m in found if m}
        drawn = Image.open(path).convert("RGBA") if png else svg(_read(path), side * 2, fonts(cache))
        image = drawn and trim(drawn, side)
        if image is None or blank(image):
            continue
        rich = png and not any(p in relative for p in NO_PHOTO) and tones(path) >= 140
        photo = rich and "emblem" not in caption
        cls = next((v for k, v in CLASSES if relative.startswith(k)), "")
        noun = noun_of(caption)
        yield Rec(
            "stamp_" + re.sub(r"[^a-z0-9]+", "_", relative.lower()).strip("_"),
            image,
            _captions(caption, noun, cls, photo),
            "debian:tuxpaint-stamps-default",
            "GPL-2",
            relative.rsplit("/", 1)[0],
            cls,
            "photo" if photo else "drawing",
            alpha=True,
            noun=noun,
            extra={"i18n": {k: i18n[k] for k in I18N if k in i18n}},
        )
