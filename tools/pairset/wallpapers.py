"""Photographs of scenes from desktop wallpapers; their captions were written for this set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from PIL import Image
from tools.pairset.images import fit
from tools.pairset.records import Rec

W16 = "lomiri-wallpapers-16.04/usr/share/backgrounds/"
WM = "mate-backgrounds/usr/share/backgrounds/mate/nature/"
WP = "plasma-workspace-wallpapers/usr/share/wallpapers/"
SCENES = (  # file, caption, 'on ...' words when it can stand behind objects
    (
        W16 + "Bridge_by_Sander_Klootwijk.jpg",
        "the cables of a bridge over a wide beach under a blue sky",
        "under a blue sky",
    ),
    (W16 + "Dragonfly_by_Bolly.jpg", "a dragonfly on a branch against a dark blue sky", ""),
    (W16 + "Picture_0B_by_freespace.jpg", "half a fig in an orange bowl seen from above", ""),
    (W16 + "Picture_1A_by_freespace.jpg", "paint brushes covered with bright paint", ""),
    (W16 + "Wine_by_Jakkub_Mede.jpg", "a glass and a bottle of wine on a wooden table", ""),
    (
        W16 + "aitzgorri_by_Aitzol_Berasategi.jpg",
        "a green meadow and autumn trees below a mountain",
        "in front of mountains",
    ),
    (W16 + "friends_by_Aitzol_Berasategi.jpg", "two brown dogs on a balcony of a wooden house", ""),
    (W16 + "greentock_by_Peter_Nerlich.jpg", "a grey wall clock with green light", ""),
    (W16 + "free_by_Peter_Nerlich.jpg", "a small bird flying below white lamps", ""),
    (
        W16 + "life_by_Aitzol_Berasategi.jpg",
        "a brook running between stones in a forest",
        "by a forest brook",
    ),
    (
        W16 + "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "a path below rocky mountains under a blue sky with clouds",
        "on a mountain path",
    ),
    (
        W16 + "seeding_by_Clements_Engelhardt.jpg",
        "dandelions with white seeds in the evening sun",
        "among dandelions",
    ),
    (W16 + "sunset_by_Aitzol_Berasategi.jpg", "the sun setting behind dark hills", "at sunset"),
    (
        "lomiri-wallpapers-20.04/usr/share/backgrounds/Kleiber_by_Lukas_Baubkus.jpg",
        "a nuthatch on the trunk of a tree",
        "",
    ),
    (WM + "Aqua.jpg", "a drop of water falling into a blue surface", "on blue water"),
    (WM + "Blinds.jpg", "a close view of a green leaf with straight lines", "on a green leaf"),
    (WM + "Dune.jpg", "dry grass on a dune by the sea under a blue sky", "on a sand dune"),
    (WM + "FreshFlower.jpg", "the orange petals of a flower seen from very near", ""),
    (WM + "Garden.jpg", "a red and yellow flower in a garden", ""),
    (WM + "GreenMeadow.jpg", "a meadow of fresh green grass", "on green grass"),
    (WM + "LadyBird.jpg", "a ladybird on a small blue flower", ""),
    (WM + "RainDrops.jpg", "drops of rain on long green leaves", "on wet leaves"),
    (WM + "Storm.jpg", "dark storm clouds above an empty road", "under storm clouds"),
    (WM + "TwoWings.jpg", "a seed with two wings on an orange flower", ""),
    (WM + "Wood.jpg", "pale wooden boards", "on a wooden floor"),
    (WM + "YellowFlower.jpg", "a yellow flower in front of a dark background", ""),
    (
        WP + "BytheWater/contents/images/1920x1080.jpg",
        "a wooden pier by the water at sunset",
        "on a wooden pier",
    ),
    (WP + "ColdRipple/contents/images/1920x1080.jpg", "an empty pier leading into grey fog", "in the fog"),
    (
        WP + "ColorfulCups/contents/images/2560x1600.jpg",
        "rows of red and blue paper cups seen from above",
        "",
    ),
    (
        WP + "DarkestHour/contents/images/1920x1080.jpg",
        "trees mirrored in a dark blue lake at night",
        "by a lake at night",
    ),
    (
        WP + "EveningGlow/contents/images/1920x1080.jpg",
        "rowing boats on a shore below glowing evening clouds",
        "on the shore in the evening",
    ),
    (
        WP + "FallenLeaf/contents/images/1920x1080.jpg",
        "fallen autumn leaves on the ground",
        "on autumn leaves",
    ),
    (
        WP + "Grey/contents/images/1920x1080.jpg",
        "the curved white balconies of a modern building in black and white",
        "",
    ),
    (WP + "Kite/contents/images/1920x1080.jpg", "a kite high in a blue sky with clouds", "in the sky"),
    (WP + "OneStandsOut/contents/images/1920x1080.jpg", "green moss with one red plant", "on green moss"),
    (WP + "Path/contents/images/1920x1080.jpg", "a dark path through a green forest", "in a dark forest"),
    (
        WP + "summer_1am/contents/images/1920x1080.jpg",
        "a calm lake below a pink and blue sky",
        "by a calm lake",
    ),
)
UNKNOWN = "CC-BY-4.0 or CC-BY-SA-4.0 (see package)"


def _stated(cache: str, package: str, name: str) -> tuple[str, str]:
    """Return licence and creator of a file as the copyright file of its Debian package states them."""
    path = os.path.join(cache, "x", package, "usr/share/doc", package, "copyright")
    with open(path, encoding="utf8") as text:
        paragraphs = text.read().split("\n\n")
    for paragraph in paragraphs:
        files = re.search(r"^Files: (.+)$", paragraph, re.M)
        licence = re.search(r"^License: (.+)$", paragraph, re.M)
        if files and licence and os.path.basename(files[1].strip()) == name:
            creator = re.search(r"^Copyright: (.+)$", paragraph, re.M)
            return licence[1].strip(), creator[1].strip() if creator else ""
    return UNKNOWN, ""


def _rights(cache: str, path: str) -> tuple[str, str]:
    if "lomiri" in path:
        return _stated(cache, path.split("/")[0], os.path.basename(path))
    return ("GPL-2+", "") if "mate" in path else ("LGPL-3", "")


def wallpapers(cache: str, side: int) -> Iterator[Rec]:
    """Yield the photographs of scenes."""
    for file, caption, behind in SCENES:
        path = os.path.join(cache, "x", file)
        if not os.path.exists(path):
            continue
        image = Image.open(path)
        if image.format == "JPEG":
            image.draft("RGB", (side * 2, side * 2))
        licence, creator = _rights(cache, file)
        name = file.split("/")[-4 if "plasma" in file else -1].lower().rsplit(".", 1)[0]
        yield Rec(
            "scene_" + re.sub(r"[^a-z0-9]+", "_", name),
            fit(image, side),
            [caption, "a photo of " + caption],
            "debian:" + file.split("/")[0],
            licence,
            "scene",
            "scene",
            "photo",
            extra={"behind": behind, "creator": creator},
        )
