"""Pictures of the shipped training pairs that scenes are made of: objects by noun, and photographs.

The objects of the shipped test scenes come from the test sets; no picture is in both.
"""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from patchclip.data.compose.words import PLAIN

SHIPPED = Path(__file__).parents[1] / "samples" / "train"

# fmt: off
NOUNS = (
    "airplane", "ambulance", "armchair", "backpack", "basketball", "bat", "bear", "beaver", "bell pepper",
    "boar", "briefcase", "cactus", "car", "cat", "clipboard", "coin", "comb", "compass", "crab", "crate",
    "crown", "dog", "drum", "eggplant", "elephant", "flamingo", "floppy disk", "gorilla", "hamburger",
    "hot dog", "kitchen scale", "koala", "lady beetle", "lamp", "lollipop", "monkey", "mushroom",
    "newspaper", "notebook", "onion", "peach", "pear", "pencil", "penguin", "pineapple", "potato",
    "pushpin", "puzzle cube", "radio", "rhinoceros", "rocket", "rooster", "safe", "shark", "sloth", "sofa",
    "softball", "spider", "squid", "star", "stop sign", "strawberry", "television", "tomato", "toolbox",
    "tractor", "traffic cone", "turkey", "turtle", "umbrella", "waffle", "whale", "wooden chair",
)
"""Nouns the shipped test scenes are drawn from; the training pairs have no picture of seven of them."""

LEFT_OUT = {
    "clip_animals_mammals_bears_orso_architetto_francesc_02",
    "clip_animals_mammals_elephant_01", "clip_animals_mammals_housecats_cat_scrathing_post_benji_01",
    "clip_animals_mammals_housecats_gatto_cat_architetto_fra_04",
    "clip_animals_mammals_housecats_gatto_nero_architetto_fr_01",
    "clip_animals_mammals_housecats_le_mie_tigri_preferite_a_01", "clip_office_lamp_sergio_luiz_araujo_01",
    "clip_signs_and_symbols_airplane", "clip_transportation_vehicles_bicicletta_cycle_archite_01",
    "clip_transportation_vehicles_trattore_architetto_fran_01", "clip_transportation_vehicles_vtt_02",
    "model_blendswap-cc-0_147", "model_blendswap-cc-by_105", "model_scopia_049", "model_scopia_124",
}
"""Pictures that show something else than their noun, or cannot be cut out."""
# fmt: on

PLACES = {
    "scene_picosdeeuropa_by_aitzol_berasategi": "in the mountains",
    "scene_seeding_by_clements_engelhardt": "in the evening sun",
    "scene_sunset_by_aitzol_berasategi": "in the evening sun",
}
"""Photographs with words for the place; others are places that a caption does not tell."""


@dataclass(frozen=True)
class Parts:
    """What scenes are made of, as image files.

    Attributes:
        objects: noun -> (key, file) of its pictures, both sorted.
        places: words for the place -> (key, file) of its photographs; "" has those without words.
    """

    objects: dict[str, list[tuple[str, bytes]]]
    places: dict[str, list[tuple[str, bytes]]]

    @property
    def grounds(self) -> list[str]:
        """Words for all places, plain ones included, sorted; without ""."""
        return sorted({*PLAIN, *self.places} - {""})


def shipped_parts() -> Parts:
    """Reads the pictures that scenes are made of out of the shipped training pairs."""
    objects: dict[str, list[tuple[str, bytes]]] = {}
    places: dict[str, list[tuple[str, bytes]]] = {}
    for path in sorted(SHIPPED.glob("*.tar")):
        image = b""
        with tarfile.open(path) as shard:
            for member in shard:
                key, ending = member.name.split(".", 1)
                file = shard.extractfile(member)
                data = file.read() if file and ending in ("webp", "json") else b""
                if ending == "webp":
                    image = data
                elif ending == "json":
                    told = json.loads(data)
                    noun = _noun(key, told)
                    if noun:
                        objects.setdefault(noun, []).append((key, image))
                    if told["kind"] == "photo" and (key in PLACES or told.get("class") == "building"):
                        places.setdefault(PLACES.get(key, ""), []).append((key, image))
    return Parts(*({name: sorted(of[name]) for name in sorted(of)} for of in (objects, places)))


def _noun(key: str, told: dict[str, object]) -> str:
    """The noun that a sample shows: its class, or of a drawing, whose classes are coarse, its caption."""
    label, captions = str(told.get("class", "")), told["captions"]
    if key in LEFT_OUT or not isinstance(captions, list):
        return ""
    if told["kind"] in ("icon", "render"):
        return label if label in NOUNS else ""
    said = {str(caption).removeprefix("a ").removeprefix("an ") for caption in captions}
    return next((noun for noun in NOUNS if noun in said), "") if told["kind"] == "drawing" else ""
