"""Emoji of several icon sets, with names and keywords of the Unicode CLDR."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

from tools.pairset.fetch import fonts
from tools.pairset.images import blank, svg, trim
from tools.pairset.records import Rec, h01
from tools.pairset.words import art

LANGUAGES = ("de", "fr", "es", "ru", "ar", "hi", "ja", "zh", "ko", "sw")
STYLES = {  # style -> (package folder, licence, words for a caption)
    "noto": ("iconify-json-noto", "Apache-2.0", "a shaded emoji"),
    "twemoji": ("iconify-json-twemoji", "CC-BY-4.0", "a flat emoji"),
    "emojione": ("iconify-json-emojione", "CC-BY-4.0", "a colourful emoji"),
    "notov1": ("iconify-json-noto-v1", "Apache-2.0", "a soft rounded emoji"),
    "fxemoji": ("iconify-json-fxemoji", "Apache-2.0", "a simple cartoon"),
    "openmoji": ("iconify-json-openmoji", "CC-BY-SA-4.0", "an outlined drawing"),
}
THINGS = {"Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects"}
Concept = dict[str, Any]
Table = dict[str, Concept]


def _read(*path: str) -> Any:
    with open(os.path.join(*path), encoding="utf8") as text:
        return json.load(text)


def _code(unified: str) -> str:
    return "-".join(c for c in unified.lower().split("-") if c != "fe0f")


def _annotations(root: str, language: str) -> dict[str, Any]:
    """Return code points -> names ('tts') and keywords ('default') in one language."""
    found: dict[str, Any] = {}
    for package, key in (
        ("cldr-annotations-derived-full", "annotationsDerived"),
        ("cldr-annotations-full", "annotations"),
    ):
        path = os.path.join(root, package, key, language, "annotations.json")
        if os.path.exists(path):
            found.update(_read(path)[key]["annotations"])
    return {"-".join(f"{ord(c):x}" for c in k if c != "\ufe0f"): v for k, v in found.items()}


def emoji_table(cache: str) -> Table:
    """Return code points -> name, keywords, category, sub, slug, i18n; skin tones are left out."""
    root = os.path.join(cache, "x", "npm")
    names = {language: _annotations(root, language) for language in ("en", *LANGUAGES)}
    table: Table = {}
    for entry in _read(root, "emoji-datasource", "emoji.json"):
        code = _code(entry["unified"])
        english = names["en"].get(code)
        if not english or entry["category"] == "Component":
            continue
        title = english["tts"][0]
        name = title if entry["category"] == "Flags" else title.lower()
        table[code] = {
            "name": name,
            "keywords": [w for w in english.get("default", []) if w.lower() != name.lower()],
            "category": entry["category"],
            "sub": entry["subcategory"],
            "slug": re.sub(r"[^a-z0-9]+", "-", title.lower().replace("’", "")).strip("-"),
            "i18n": {
                language: names[language][code]["tts"][0]
                for language in LANGUAGES
                if code in names[language] and "tts" in names[language][code]
            },
        }
    return table


def _phrase(concept: Concept) -> str:
    name, category = concept["name"], concept["category"]
    if category == "Flags":
        if name.lower().startswith("flag: "):
            return "the flag of " + name.split(": ", 1)[1]
        return art(name.lower())
    name = re.sub(r"[“”()]", "", name.replace(": ", " with ") if ":" in name else name)
    if re.search("o’clock|-thirty", name):
        return "a clock showing " + name
    if category == "Symbols":
        tail = "" if name.split()[-1] in ("symbol", "sign", "button") else " symbol"
        return "the " + re.sub("^a button", "letter A button", name) + tail
    return art(name)


def _captions(concept: Concept, style: str, words: str) -> list[str]:
    phrase = _phrase(concept)
    keywords = [k for k in concept["keywords"] if k.lower() not in concept["name"].lower()][:3]
    captions = [phrase, words + " of " + phrase]
    if keywords:
        captions.append(phrase + ", " + ", ".join(keywords))
    first = int(h01(concept["name"], style) * 3) % len(captions)
    return [captions[first]] + [c for i, c in enumerate(captions) if i != first]


def _icon_names(folder: str, icons: dict[str, Any], table: Table) -> dict[str, str]:
    """Return code points -> icon name, from the package's own list or else from the names."""
    path = os.path.join(folder, "chars.json")
    chars = _read(path) if os.path.exists(path) else {}
    if chars:
        return {_code(k): v for k, v in chars.items()}
    plain = {re.sub(r"[^a-z0-9]", "", n): n for n in icons}
    slugs = {code: re.sub(r"[^a-z0-9]", "", concept["slug"]) for code, concept in table.items()}
    return {code: plain[slug] for code, slug in slugs.items() if slug in plain}


def emoji(cache: str, table: Table, style: str, side: int) -> Iterator[Rec]:
    """Yield the emoji of one style."""
    package, licence, words = STYLES[style]
    folder = os.path.join(cache, "x", "npm", package)
    data = _read(folder, "icons.json")
    names = _icon_names(folder, data["icons"], table)
    for code, concept in sorted(table.items()):
        icon = data["icons"].get(names.get(code, ""))
        if not icon:
            continue
        w, h = icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16))
        box = f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {w} {h}" width="{w}" height="{h}"'
        space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        image = svg(f"<svg {space} {box}>{icon['body']}</svg>", side * 2, fonts(cache))
        image = image and trim(image, side)
        if image is None or blank(image):
            continue
        yield Rec(
            f"emoji_{style}_{code}",
            image,
            _captions(concept, style, words),
            "npm:" + data["prefix"],
            licence,
            concept["sub"],
            concept["name"],
            "icon",
            style,
            extra={"concept": code, "group": concept["category"]},
        )


def clear_concepts(styles: list[list[Rec]], table: Table) -> set[str]:
    """Return the concepts fit for a test: things with short names, drawn in every one of the styles."""
    drawn = set.intersection(*({r.extra["concept"] for r in style} for style in styles))
    return {
        code
        for code in drawn
        if table[code]["category"] in THINGS
        and len(table[code]["name"].split()) <= 2
        and table[code]["name"].replace(" ", "").replace("-", "").isalpha()
        and table[code]["sub"] not in ("time", "arrow", "other-object")
    }
