"""The record that every source yields."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from PIL import Image


@dataclass
class Rec:
    """One labelled image: ``kind`` is photo, render, drawing, icon or digit; ``noun`` names it in scenes."""

    key: str
    image: Image.Image
    captions: list[str]
    source: str
    licence: str
    category: str = ""
    cls: str = ""
    kind: str = "drawing"
    style: str = ""
    alpha: bool = False
    noun: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def h01(text: str, salt: str = "") -> float:
    """Return a number in [0, 1) that depends on the text and the salt alone."""
    return int(hashlib.sha1((salt + text).encode()).hexdigest()[:12], 16) / 16**12
