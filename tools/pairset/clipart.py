"""Drawings of the Open Clip Art Library, captioned from titles, file names and keywords."""

from __future__ import annotations

import glob
import html
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tools.pairset import clipart_words as lists
from tools.pairset.fetch import fonts
from tools.pairset.images import blank, flatten, svg, trim
from tools.pairset.records import Rec, h01
from tools.pairset.words import art, vocabulary


@dataclass(frozen=True)
class Drawing:
    """One file and what its metadata says."""

    relative: str
    text: str
    title: str
    description: str
    keywords: tuple[str, ...]
    free: bool

    @property
    def folder(self) -> str:
        """Folder below the root of the library."""
        return self.relative.rsplit("/", 1)[0]

    @property
    def cls(self) -> str:
        """Class name by folder, or ''."""
        return next((v for k, v in lists.CLASSES if self.relative.startswith(k)), "")


def _field(metadata: str, pattern: str) -> str:
    found = re.search(pattern, metadata, re.S)
    return re.sub(r"\s+", " ", html.unescape(html.unescape(found[1]))).strip() if found else ""


def _keywords(metadata: str) -> tuple[str, ...]:
    found = (html.unescape(k) for k in re.findall(r"<rdf:li>(.*?)</rdf:li>", metadata, re.S))
    plain = (re.sub(r"[_\s]+", " ", k).strip().lower() for k in found)
    return tuple(k for k in plain if k)


def _drawings(cache: str) -> list[Drawing]:
    root = os.path.join(cache, "x", "openclipart-svg", "usr/share/openclipart/svg") + "/"
    drawings = []
    for path in sorted(glob.glob(root + "**/*.svg", recursive=True)):
        relative = path[len(root) :]
        if os.path.islink(path) or lists.SKIP.match(relative):
            continue
        with open(path, encoding="utf8", errors="replace") as file:
            text = file.read()
        found = re.search(r"<metadata.*?</metadata>", text, re.S)
        metadata = found[0] if found else ""
        title = _field(metadata, r"<cc:Work.*?<dc:title>(.*?)</dc:title>")
        description = _field(metadata, r"<dc:description>(.*?)</dc:description>")
        free = "PublicDomain" in metadata
        drawings.append(Drawing(relative, text, title, description, _keywords(metadata), free))
    return drawings


def _words(text: str) -> list[str]:
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    text = re.sub(r"\d+", " ", re.sub(r"[_\-./,;:()\[\]\"]+", " ", text))
    return [w for w in text.lower().split() if (w not in lists.DROP and len(w) > 1) or w == "a"]


def _name(drawing: Drawing, common: bool, known: frozenset[str]) -> list[str]:
    """Return the words of the title, or of the file name where the title says nothing."""
    words = _words(drawing.title)
    if not words or common or lists.NO_TITLE.search(drawing.title):
        words = []
    if not words or sum(w in known for w in words) < 0.7 * len(words):
        words = []
        for word in _words(os.path.basename(drawing.relative)[:-4]):
            if word not in known:  # leading English words only: the rest is the author
                break
            words.append(word)
        if drawing.keywords and len(words) > 2:
            words = words[:3]
    words = [w for i, w in enumerate(words) if i == 0 or w != words[i - 1]][:8]
    while words and words[-1] in lists.NO_END:
        words.pop()
    return words


def _phrase(drawing: Drawing, words: list[str], known: frozenset[str]) -> str:
    cls = drawing.cls
    says_nothing = not words or not any(len(w) > 2 for w in words)
    if "signs_and_symbols/flags" in drawing.folder and "semaphore" not in drawing.folder:
        stem = _words(os.path.basename(drawing.relative)[:-4])
        place = " ".join(w for w in stem if w not in ("flag", "of", "the"))
        return "the flag of " + place.title() if place else ""
    if says_nothing and cls in lists.PLAIN:
        return art(cls)
    if says_nothing or " ".join(words) in lists.EMPTY_TITLES:
        keywords = [k for k in drawing.keywords if k in known and k not in lists.EMPTY_KEYWORDS]
        phrase = art(keywords[0]) if len(keywords) >= 2 and cls else ""
        return phrase + ", " + art(cls) if phrase and cls not in phrase else phrase
    return art(" ".join(words))


def _captions(drawing: Drawing, phrase: str, known: frozenset[str]) -> list[str]:
    captions = [phrase, "a clipart drawing of " + phrase]
    keywords = [
        k
        for k in drawing.keywords
        if k not in ("hash", "unsorted", "sign", "icon")
        and k not in phrase
        and re.match(r"^[a-z ]+$", k)
        and all(w in known for w in k.split())
    ]
    if keywords:
        captions.append(phrase + ", " + ", ".join(keywords[:3]))
    words = re.findall(r"[a-z]+", drawing.description.lower())
    plain = "@" not in drawing.description and "http" not in drawing.description
    english = sum(w in known for w in words) > 0.85 * len(words) and lists.SMALL_WORDS & set(words)
    if 4 <= len(words) <= 30 and plain and english:
        return [drawing.description[:200], *captions]
    if len(phrase.split()) <= 2 and h01(drawing.relative, "t") < 0.6:
        return [captions[-1], *captions[:-1]]
    return captions


def openclipart(cache: str, side: int) -> Iterator[Rec]:
    """Yield the drawings that are in the public domain, each picture once."""
    known = vocabulary(cache)
    drawings = _drawings(cache)
    titles = Counter(d.title.lower() for d in drawings)
    seen: Counter[str] = Counter()
    pictures: set[bytes] = set()
    for drawing in (d for d in drawings if d.free):
        words = _name(drawing, titles[drawing.title.lower()] > 5, known)
        phrase = _phrase(drawing, words, known)
        if len(phrase) < 4 or seen[phrase] >= (14 if phrase == art(drawing.cls) else 4):
            continue
        image = svg(drawing.text, side * 2, fonts(cache))
        image = image and trim(image, side)
        if image is None or blank(image):
            continue
        small = flatten(image).convert("L").resize((12, 12), Image.Resampling.BILINEAR)
        picture = (np.asarray(small, dtype=np.int16) // 24).tobytes()
        if picture in pictures:
            continue
        pictures.add(picture)
        seen[phrase] += 1
        yield Rec(
            "clip_" + re.sub(r"[^a-z0-9]+", "_", drawing.relative[:-4].lower()),
            image,
            _captions(drawing, phrase, known),
            "debian:openclipart-svg",
            "public domain dedication",
            drawing.folder,
            drawing.cls,
            "drawing",
            extra={"title": phrase},
        )
