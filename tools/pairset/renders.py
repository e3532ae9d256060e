"""3D renders of furniture from the Sweet Home 3D libraries."""

from __future__ import annotations

import glob
import io
import os
import re
import zipfile
from collections.abc import Iterator

from PIL import Image
from tools.pairset.images import blank, trim
from tools.pairset.records import Rec
from tools.pairset.words import art, vocabulary


def _catalog(library: zipfile.ZipFile) -> dict[str, str]:
    text = library.read("PluginFurnitureCatalog.properties").decode("latin1")
    lines = (line for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def _noun(name: str, people: bool) -> str:
    noun = name.encode().decode("unicode_escape").lower()
    noun = re.sub(r"\s+", " ", re.sub(r"[^a-z\- ]", " ", noun)).strip()
    if people:
        noun = re.sub(r"\bmale\b", "man", noun.replace("female", "woman"))
    return noun


def _captions(noun: str, category: str, tags: list[str]) -> list[str]:
    captions = [art(noun), "a 3D render of " + art(noun)]
    if tags:
        captions.append("a 3D render of " + art(noun) + ", " + ", ".join(tags[:3]))
    if category:
        captions.append(art(noun) + " from the category " + category.lower())
    return captions


def furniture(cache: str, side: int) -> Iterator[Rec]:
    """Yield the renders of every library, cut out."""
    words = vocabulary(cache)
    pattern = os.path.join(cache, "x", "sweethome3d-furniture", "**", "*.sh3f")
    for path in sorted(glob.glob(pattern, recursive=True)):
        with zipfile.ZipFile(path) as library:
            yield from _library(library, path, side, words)


def _library(library: zipfile.ZipFile, path: str, side: int, words: frozenset[str]) -> Iterator[Rec]:
    catalog = _catalog(library)
    for i in sorted((k[3:] for k in catalog if k.startswith("id#")), key=int):
        noun = _noun(catalog["name#" + i].strip(), "Reallusion" in path)
        category = catalog.get("category#" + i, "").strip()
        tags = [t.strip() for t in catalog.get("tags#" + i, "").split(",")]
        tags = [t.lower() for t in tags if t and "Blend" not in t and "SCPTS" not in t]
        if len(noun) < 3 or noun == "box":
            continue
        image = trim(Image.open(io.BytesIO(library.read(catalog["icon#" + i].lstrip("/")))), side)
        if image is None or blank(image):
            continue
        known = set(re.split("[ -]", noun)) <= words - {"ford", "focus", "twin"}
        yield Rec(
            f"model_{os.path.basename(path)[:-5].lower()}_{int(i):03d}",
            image,
            _captions(noun, category, tags),
            "debian:sweethome3d-furniture",
            "CC0-1.0" if "CC-0" in path else "CC-BY-3.0",
            category.lower(),
            re.split(r" (?:with|for|on|of|in) ", noun)[0].split()[-1],
            "render",
            alpha=True,
            noun=noun if len(noun.split()) <= 2 and known else "",
            extra={"creator": catalog.get("creator#" + i, "")},
        )
