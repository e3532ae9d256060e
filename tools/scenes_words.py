"""Words of composed scenes: what they show, their captions, and captions that are wrong in one thing.

A plan gives one scene for each set of kinds switched on. The scene with one kind more, or one less, shows
what this scene's wrong caption of that kind says: each wrong caption is the right one of another picture,
whose wrong caption is the right one here. Without looking, nobody is right about more than one of the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from patchclip.data.compose.words import OPPOSITE, Thing, Told

# zs_emoji: pictures of these classes
# fmt: off
EMOJI = (
    "airplane", "ambulance", "bat", "bear", "beaver", "bell pepper", "boar", "cactus", "clipboard", "coin",
    "compass", "crab", "crown", "drum", "eggplant", "elephant", "flamingo", "floppy disk", "gorilla",
    "hot dog", "koala", "lady beetle", "lollipop", "monkey", "mushroom", "newspaper", "notebook", "onion",
    "peach", "pear", "pencil", "penguin", "pineapple", "potato", "pushpin", "rhinoceros", "rocket",
    "rooster", "shark", "sloth", "softball", "spider", "squid", "star", "stop sign", "strawberry",
    "television", "tomato", "toolbox", "tractor", "turkey", "turtle", "umbrella", "waffle", "whale",
)
# fmt: on
# zs_furniture, retrieval_mixed: names of these renders
RENDERS = {
    "model_blendswap-cc-0_073": "crate",
    "model_blendswap-cc-0_078": "basketball",
    "model_blendswap-cc-0_106": "briefcase",
    "model_blendswap-cc-0_132": "sofa",
    "model_blendswap-cc-0_139": "armchair",
    "model_blendswap-cc-by_002": "backpack",
    "model_blendswap-cc-by_024": "wooden chair",
    "model_blendswap-cc-by_052": "radio",
    "model_blendswap-cc-by_053": "safe",
    "model_blendswap-cc-by_069": "puzzle cube",
    "model_blendswap-cc-by_076": "kitchen scale",
    "model_blendswap-cc-by_094": "car",
    "model_blendswap-cc-by_096": "hamburger",
    "model_blendswap-cc-by_100": "cat",
    "model_scopia_057": "lamp",
    "model_scopia_107": "comb",
    "model_scopia_162": "dog",
    "model_scopia_262": "traffic cone",
}


@dataclass(frozen=True)
class Plan:
    """What the scenes of a group share.

    Attributes:
        kinds: what differs between them.
        nouns: of the first object, of the second, and the one that replaces the first.
        attributes: the same for the colours or sizes; "" where none is told.
        relation: of the first object to the second.
        third: a further noun, or "".
        where: words for the background.
    """

    kinds: tuple[str, ...]
    nouns: tuple[str, str, str]
    attributes: tuple[str, str, str]
    relation: str
    third: str
    where: str

    def told(self, on: frozenset[str]) -> Told:
        """Return what the scene shows in which the kinds ``on`` are switched."""
        first, second, other = self.nouns
        one, two, new = self.attributes
        one = new if "replace_att" in on else one
        one, two = (two, one) if "swap_att" in on else (one, two)
        pair = [Thing(other if "replace_obj" in on else first, one), Thing(second, two)]
        if "swap_obj" in on:
            pair.reverse()
        relation = OPPOSITE[self.relation] if "replace_rel" in on else self.relation
        third = [Thing(self.third)] if self.third else []
        return Told((*pair, *third), relation, self.where)

    def scenes(self) -> Iterator[tuple[Told, dict[str, Told]]]:
        """Yield what each scene of the group shows, with what its wrong captions say, by kind."""
        for size in range(len(self.kinds) + 1):
            for chosen in combinations(self.kinds, size):
                on = frozenset(chosen)
                yield self.told(on), {kind: self.told(on ^ {kind}) for kind in self.kinds}
