"""Words for the background: what fills a picture around its things."""

from collections.abc import Set

STUFF: dict[str, tuple[str, ...]] = {
    "background": (),
    "sky": (),
    "cloud": ("sky",),
    "wall": (),
    "floor": ("ground",),
    "ceiling": (),
    "ground": ("soil", "earth", "dirt", "land", "field"),
    "road": ("street", "highway", "asphalt", "pavement", "ground"),
    "pavement": ("sidewalk", "road", "ground"),
    "sand": ("beach", "desert", "ground"),
    "grass": ("lawn", "meadow", "field", "plant", "vegetation"),
    "tree": ("forest", "wood", "plant", "vegetation", "leaf", "palm"),
    "bush": ("plant", "vegetation", "tree", "shrub", "hedge"),
    "rock": ("stone", "cliff", "mountain"),
    "mountain": ("hill",),
    "hill": ("mountain",),
    "snow": ("ice",),
    "water": ("sea", "ocean", "lake", "river", "pool", "pond"),
    "sea": ("ocean", "water"),
    "river": ("water", "lake", "pond"),
    "building": ("house", "skyscraper", "tower", "church", "architecture"),
    "house": ("building", "home", "cottage"),
    "fence": ("railing",),
    "window": (),
    "door": (),
    "curtain": (),
    "shelf": ("bookshelf", "furniture"),
    "table": ("desk", "furniture"),
    "carpet": ("rug", "floor"),
    "fabric": ("cloth", "textile", "blanket"),
    "paper": (),
}
"""Word -> labels that mean it too, or more: with one of them asked for, the word is no background."""


def background_names(labels: Set[str]) -> tuple[str, ...]:
    """The general list without what a label says.

    A label says the words in front of each "of" and at its end ("field of green grass": field, grass), in
    singular or plural.

    Args:
        labels: names in lower case.
    """
    heads = {form for label in labels for part in label.split(" of ") for form in forms(part)}
    return tuple(word for word, others in STUFF.items() if not heads & {word, *others})


def forms(phrase: str) -> set[str]:
    """The phrase and its last word, each also without a plural ending."""
    whole = {phrase, phrase.split()[-1]} if phrase.split() else set()
    return (
        whole
        | {word[:-1] for word in whole if word.endswith("s")}
        | {word[:-2] for word in whole if word.endswith("es")}
    )
