"""Words of composed scenes: what they show and how their captions say it."""

from dataclasses import dataclass

COLOURS = {
    "red": (205, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 215, 50),
    "green": (50, 150, 60),
    "blue": (45, 90, 200),
    "purple": (130, 60, 170),
    "pink": (240, 130, 180),
}
"""Colours that objects are painted in."""

SIZES = {"": 0.4, "large": 0.52, "small": 0.24}
"""Long side of an object as a share of the picture's side, by the word for it; "" where none is told."""

THIRD = 0.26
"""The same of the third object."""

RELATIONS = ("to the left of", "above", "in front of")
OPPOSITE = dict(zip(RELATIONS, ("to the right of", "below", "behind"), strict=True))
OPPOSITE |= {b: a for a, b in OPPOSITE.items()}

PLAIN = {
    "on a white background": (250, 250, 250),
    "on a light blue background": (190, 220, 245),
    "on a light green background": (205, 235, 200),
    "on a pale yellow background": (250, 242, 200),
    "on a light grey background": (215, 215, 215),
    "on a pale pink background": (248, 220, 225),
}
"""Places of one colour."""


@dataclass(frozen=True)
class Thing:
    """An object of a scene with its colour or size, if it is told."""

    noun: str
    attribute: str = ""

    def __str__(self) -> str:
        words = f"{self.attribute} {self.noun}".strip()
        return ("an " if words[0] in "aeiou" else "a ") + words


@dataclass(frozen=True)
class Told:
    """What a caption says.

    Attributes:
        things: one to three objects.
        relation: of the first object to the second; "" where there is no second.
        where: words for the place; "" where it is not told.
    """

    things: tuple[Thing, ...]
    relation: str = ""
    where: str = ""

    @property
    def names(self) -> str:
        """The objects by their nouns alone, without colours, sizes, relation and place."""
        return " and ".join(str(Thing(thing.noun)) for thing in self.things)

    def __str__(self) -> str:
        first, *more = map(str, self.things)
        text = f"{first} {self.relation} {more[0]}" if more else first
        text += "".join(f", and {thing}" for thing in more[1:])
        return f"{text}, {self.where}" if self.where else text
