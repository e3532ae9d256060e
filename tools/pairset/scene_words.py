"""Captions of composed scenes and hard negative captions, of the types of SugarCrepe."""

from __future__ import annotations

import random
from typing import Any

from tools.pairset.words import art

COLOURS = {
    "red": (205, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 215, 50),
    "green": (50, 150, 60),
    "blue": (45, 90, 200),
    "purple": (130, 60, 170),
    "pink": (240, 130, 180),
    "brown": (120, 75, 40),
    "grey": (128, 128, 128),
    "black": (40, 40, 40),
    "white": (240, 240, 240),
}
TINT = ["red", "orange", "yellow", "green", "blue", "purple", "pink"]
RELATIONS = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
}
SIZES = {"large": "small", "small": "large"}
Object = dict[str, Any]


def phrase(item: Object) -> str:
    """Return 'a large red chair'."""
    return art(" ".join(w for w in (item.get("size"), item.get("colour"), item["noun"]) if w))


def sentence(items: list[Object], relation: str, behind: str, third: Object | None) -> str:
    """Return the caption of a scene of two objects and perhaps a third one."""
    text = f"{phrase(items[0])} {relation} {phrase(items[1])}"
    if third:
        text += f", and {phrase(third)}"
    return text + (f", {behind}" if behind else "")


def _changed(items: list[Object], index: int, **change: Any) -> list[Object]:
    copies = [dict(item) for item in items]
    copies[index].update(change)
    return copies


def _exchanged(items: list[Object]) -> list[Object]:
    return [
        dict(item, colour=other.get("colour"), size=other.get("size"))
        for item, other in zip(items, items[::-1], strict=True)
    ]


def negatives(
    rng: random.Random,
    objects: list[Object],
    relation: str,
    behind: str,
    nouns: list[str],
) -> dict[str, str]:
    """Return type -> a caption that is wrong in one thing; ``nouns`` are candidates to put in."""
    items, third = objects[:2], objects[2] if len(objects) > 2 else None
    own = [o["noun"] for o in objects]
    other = next((n for n in nouns if not any(n in q or q in n for q in own)), None)
    found: dict[str, str] = {}
    if other:
        changed = _changed(items, rng.randint(0, 1), noun=other)
        found["replace_obj"] = sentence(changed, relation, behind, third)
        if not third:
            found["add_obj"] = sentence(items, relation, behind, {"noun": other})
    found["replace_rel"] = sentence(items, RELATIONS[relation], behind, third)
    found["swap_obj"] = sentence(items[::-1], relation, behind, third)
    coloured = [i for i in (0, 1) if items[i].get("colour")]
    sized = "size" in items[0]
    if coloured:
        i = rng.choice(coloured)
        colour = rng.choice([c for c in TINT if c != items[i]["colour"]])
        found["replace_att"] = sentence(_changed(items, i, colour=colour), relation, behind, third)
    elif sized:
        i = rng.randint(0, 1)
        changed = _changed(items, i, size=SIZES[items[i]["size"]])
        found["replace_att"] = sentence(changed, relation, behind, third)
    if sized or coloured:
        found["swap_att"] = sentence(_exchanged(items), relation, behind, third)
    plain = [
        i for i in (0, 1) if not items[i].get("colour") and not set(items[i]["noun"].split()) & set(COLOURS)
    ]
    if plain:
        changed = _changed(items, plain[0], colour=items[plain[0]]["_far"])
        found["add_att"] = sentence(changed, relation, behind, third)
    right = sentence(items, relation, behind, third)
    return {k: v for k, v in found.items() if v != right}
