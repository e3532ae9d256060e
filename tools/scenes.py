"""Compose scenes from sample pictures: exact masks, captions with relations, and hard negative captions.

``tools.build_samples`` writes them; the same samples give the same bytes.
"""

from __future__ import annotations

import io
import json
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tools.samples_shards import Sample, write_shard
from tools.scenes_cut import far_colour
from tools.scenes_words import EMOJI, RENDERS, Plan

from patchclip.data.compose.cut import cut, scaled, tinted
from patchclip.data.compose.place import SIDE, paint, placed, square
from patchclip.data.compose.words import COLOURS, PLAIN, RELATIONS, SIZES, THIRD, Thing, Told

ROUNDS = 3
GROUPS = (  # kinds, attributes
    (("replace_obj", "replace_att", "replace_rel"), "colour"),
    (("replace_obj", "swap_att", "swap_obj"), "colours"),
    (("replace_obj", "replace_att", "swap_obj"), "colour"),
    (("replace_obj", "swap_att", "replace_rel"), "sizes"),
    (("replace_att", "swap_att", "swap_obj"), "colours"),
    (("replace_obj", "replace_rel"), ""),
    (("replace_att", "swap_att", "replace_rel"), "colours"),
    (("replace_obj", "swap_att", "swap_obj"), "sizes"),
    (("replace_obj", "swap_obj"), ""),
    (("replace_obj", "swap_att", "replace_rel"), "colours"),
)
PHOTOS = {
    "on grey bricks": "photo_brick",
    "among the stars": "photo_hubble_deep_field",
    "in the mountains": "scene_picosdeeuropa_by_aitzol_berasategi",
    "in the evening sun": "scene_sunset_by_aitzol_berasategi",
}


@dataclass
class Scene:
    """A composed picture.

    Attributes:
        image: RGB.
        instances: 0 for the background, 1 for the first object of the caption, and so on.
        told: what it shows.
        wrong: kind -> a caption that is wrong.
        objects: of each instance its number, noun, attribute, box, visible share and sample.
        parts: the samples it is made of.
    """

    image: Image.Image
    instances: Image.Image
    told: Told
    wrong: dict[str, str]
    objects: list[dict[str, object]]
    parts: list[Sample] = field(default_factory=list)


def plans(rng: random.Random) -> Iterator[Plan]:
    """Yield the groups of scenes: every noun is dealt before one comes again."""
    nouns = sorted([*EMOJI, *RENDERS.values()])
    deck: list[str] = []
    photos, colours = sorted(PHOTOS), sorted(PLAIN)
    for n in range(ROUNDS * len(GROUPS)):
        kinds, told = GROUPS[n % len(GROUPS)]
        if len(deck) < 4:
            deck = rng.sample(nouns, len(nouns))
        first, second, other = (deck.pop() for _ in range(3))
        third = deck.pop() if n % 10 in (1, 5, 8) else ""
        one, two, new = rng.sample(sorted(COLOURS), 3)
        attributes = {
            "": ("", "", ""),
            "colour": (one, "", new),
            "colours": (one, two, new),
            "sizes": ("large", "small", ""),
        }[told]
        relation = RELATIONS[n % len(RELATIONS)]
        where = photos[n % len(photos)] if n % 5 in (1, 3) else colours[n % len(colours)]
        yield Plan(kinds, (first, second, other), attributes, relation, third, where)


def ground(rng: random.Random, where: str, photos: dict[str, Sample]) -> Image.Image:
    """Return the background of the words: a colour, or a random square of a photograph."""
    if where in PLAIN:
        return Image.new("RGBA", (SIDE, SIDE), (*PLAIN[where], 255))
    file = io.BytesIO(photos[PHOTOS[where]].image)
    return square(rng, Image.open(file).convert("RGB"))


def added(rng: random.Random, told: Told, cuts: dict[str, Image.Image]) -> dict[str, str]:
    """Return the captions with a word too many: an object that is not there, a colour that is not seen."""
    wrong = {}
    first, second, *third = told.things
    if not third:
        noun = rng.choice([n for n in sorted(cuts) if n not in {first.noun, second.noun}])
        wrong["add_obj"] = str(Told((first, second, Thing(noun)), told.relation, told.where))
    plain = [t for t in (first, second) if not t.attribute]
    if plain:
        thing = Thing(plain[0].noun, far_colour(cuts[plain[0].noun]))
        pair = [thing if t is plain[0] else t for t in (first, second)]
        wrong["add_att"] = str(Told((*pair, *third), told.relation, told.where))
    return wrong


def compose(rng: random.Random, told: Told, canvas: Image.Image, cuts: dict[str, Image.Image]) -> Scene:
    """Paint what is told on the canvas."""
    images = []
    for n, thing in enumerate(told.things):
        image = cuts[thing.noun]
        image = tinted(image, thing.attribute) if thing.attribute in COLOURS else image
        length = THIRD if n == 2 else SIZES.get(thing.attribute, SIZES[""])
        images.append(scaled(image, SIDE * length * rng.uniform(0.92, 1.08), rng.random() < 0.5))
    instances, objects = paint(canvas, told, images, placed(rng, images, told.relation))
    return Scene(canvas.convert("RGB"), instances, told, {}, objects)


def parts_of(samples: dict[str, Sample]) -> dict[str, Sample]:
    """Return noun -> the sample its cut-out is made of."""
    found = {noun: samples[key] for key, noun in RENDERS.items()}
    for key in sorted(samples, reverse=True):
        if key.startswith("emoji_") and samples[key].label in EMOJI:
            found[samples[key].label] = samples[key]
    missing = set(EMOJI) - set(found)
    if missing:
        raise KeyError(f"zs_emoji has no picture of {sorted(missing)}")
    return found


def scenes(tested: dict[str, Sample], trained: dict[str, Sample], seed: str = "scenes") -> Iterator[Scene]:
    """Yield all scenes: objects of the evaluation sets before photographs of either part, both by key."""
    photos = {**trained, **tested}
    rng = random.Random(seed)
    parts = parts_of(tested)
    cuts = {noun: cut(sample.image) for noun, sample in parts.items()}
    for plan in plans(rng):
        for told, wrong in plan.scenes():
            scene = compose(rng, told, ground(rng, told.where, photos), cuts)
            scene.wrong = {kind: str(other) for kind, other in wrong.items()} | added(rng, told, cuts)
            scene.parts = [parts[str(o["noun"])] for o in scene.objects]
            for item, part in zip(scene.objects, scene.parts, strict=True):
                item["sample"] = part.key
            if told.where in PHOTOS:
                scene.parts.append(photos[PHOTOS[told.where]])
            yield scene


def as_sample(scene: Scene, key: str) -> Sample:
    """Return a scene as a sample; it stands under the licences of all its parts together."""
    picture_file, masks = io.BytesIO(), io.BytesIO()
    scene.image.save(picture_file, "WEBP", quality=72, method=6)
    scene.instances.save(masks, "PNG", optimize=True)
    notes: dict[str, object] = {"relation": scene.told.relation, "objects": scene.objects}
    if scene.told.where in PHOTOS:
        notes["background"] = PHOTOS[scene.told.where]
    told = {
        name: sorted({getattr(p, name) for p in scene.parts} - {""}) for name in ("source", "creator", "url")
    }
    return Sample(
        key=key,
        image=picture_file.getvalue(),
        captions=(str(scene.told),),
        source="; ".join(told["source"]),
        licence=" AND ".join(sorted({p.licence for p in scene.parts})),
        creator="; ".join(told["creator"]),
        url="; ".join(told["url"]),
        kind="scene",
        label="",
        files={"inst.png": masks.getvalue()},
        notes=notes,
    )


def write_scenes(folder: Path, made: list[Scene]) -> list[Sample]:
    """Write the set with its wrong captions in SugarCrepe's form and return its samples."""
    samples = [as_sample(scene, f"scenes_{n:05d}") for n, scene in enumerate(made)]
    write_shard(folder / "test" / "0.tar", samples)
    (folder / "test" / "nshards.txt").write_text("1\n")
    (folder / "dataset_type.txt").write_text("retrieval\n")
    kinds: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for scene, sample in zip(made, samples, strict=True):
        for kind, wrong in scene.wrong.items():
            row = {"filename": sample.key + ".webp", "caption": sample.captions[0], "negative_caption": wrong}
            kinds[kind][str(len(kinds[kind]))] = row
    (folder / "compositional").mkdir(exist_ok=True)
    for kind, rows in sorted(kinds.items()):
        (folder / "compositional" / f"{kind}.json").write_text(json.dumps(rows, indent=1) + "\n")
    return samples
