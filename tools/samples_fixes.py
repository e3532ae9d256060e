"""Repair or drop captions of the larger set that are plainly wrong; found by looking at the pictures."""

from __future__ import annotations

import re

DROPPED = {
    "clip_animals_2_dead_frogs_lumen_desig_01",
    "clip_people_sexy_lady_01",
    "clip_plants_cannabis_leaf_anonymous_",
    "clip_tools_kexi_kexi_team_01",
    "clip_tools_weapons_fat_man_interior_of_a_01",
    "clip_tools_weapons_little_boy_atomic_bom_01",
    "gc_categorization_images_monuments_monument1",
    "gc_categorization_images_renewable_solar3",
}
CAPTIONS = {
    "gc_categorization_images_monuments_arcdetriomphe": "the Arc de Triomphe du Carrousel in Paris",
    "gc_categorization_images_monuments_victoriamemorial": "the Victoria Memorial in London",
    "gc_categorization_images_others_knife": "a fork, a knife and a spoon",
    "gc_categorization_images_renewable_solar1": "a solar cooker with a round mirror",
    "gc_categorization_images_renewable_solar2": "a solar cooker",
    "gc_explore_world_animals_animals_dragon": "a Komodo dragon",
}
ABOUT_THE_FILE = re.compile(
    r"\b(inkscape|svg|vectors?|tutorial|tutoral|open source|clip ?art lib|openclipart|converted|created"
    r"|traced|scalable|drawn (by|in)|made (by|in|with|for|from)|my|i|this is)\b",
    re.I,
)


def fixed(key: str, captions: list[str], label: str) -> list[str]:
    """Return the captions to use for a picture; none means that the picture is left out.

    Clipart loses captions that speak of the file instead of the picture, and 'X, a CLASS', where X is any
    keyword, becomes 'a CLASS'.
    """
    if key in DROPPED:
        return []
    if key in CAPTIONS:
        return [CAPTIONS[key], "a photo of " + CAPTIONS[key]]
    if not key.startswith("clip_"):
        return captions
    captions = [c for c in captions if not ABOUT_THE_FILE.search(c)]
    keyword = re.compile(rf"[^,]+, (an? {re.escape(label)})")
    phrase = keyword.fullmatch(captions[0]) if captions and label else None
    return [phrase[1], "a clipart drawing of " + phrase[1]] if phrase else captions
