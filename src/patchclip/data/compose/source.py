"""Composed training scenes as a source of pairs: drawn from (seed, index) when they are read."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchclip.contracts import BadSample, Pair
from patchclip.data.compose.cut import cut, scaled, tinted
from patchclip.data.compose.parts import Parts, shipped_parts
from patchclip.data.compose.place import SIDE, NoPlaceError, paint, placed, square
from patchclip.data.compose.words import COLOURS, OPPOSITE, PLAIN, SIZES, THIRD, Thing, Told
from patchclip.errors import DataError

COUNT = 4000
"""Scenes where none is asked for."""

MOST = 10**9
"""Scenes that can be asked for."""

KINDS = ("scenes", "things")
"""Names of composed pairs."""

PICTURES = 5
"""Training pictures that a noun of `familiar` has at least."""

ALONE = (0.3, 0.85)
"""Least and most of the long side of an object that stands alone, as a share of the scene's side."""

COUNTS = (1, 1, 2, 2, 3)
ATTRIBUTES = ("", "colour", "colours", "sizes")
LARGEST = 192
ATTEMPTS = 20


@dataclass(frozen=True)
class Composed:
    """A composed scene.

    Attributes:
        image: RGB, 224 x 224.
        instances: uint8 [224,224]; 0 for the background, i for `objects[i - 1]`.
        told: what it shows; `str(told)` is the caption.
        objects: of each its "id", "noun", "attribute" (if told), "box" (left, top, right, bottom), "visible"
            share and "sample", the key of its picture.
    """

    image: Image.Image
    instances: NDArray[np.uint8]
    told: Told
    objects: list[dict[str, Any]]


class SceneSource:
    """Scenes of one to three objects, composed of the shipped training pictures.

    Each has two captions: all that is told ("a red star above a cat, on a white background"), and its nouns
    ("a star and a cat"). Colours and places tell the scenes of a batch apart, so that a small model trained
    on the first alone does not learn the nouns. With `told="nouns"` there is the second alone.

    Scene i follows from (seed, i) alone and takes 1 to 3 ms; nothing is written. The objects, their pictures,
    colours, sizes, relations and places are drawn evenly. Photographs of buildings are places without words.

    Args:
        count: number of scenes, 1 to a billion.
        seed: another seed gives other scenes of the same kind.
        nouns: of the objects, a part of `compose.parts.NOUNS`, at least three; None for all with a picture.
        painted: whether colours and sizes are told, and objects painted; False leaves all as they are.
        told: "all" for both captions, "nouns" for the nouns alone.

    Raises:
        DataError: a count or seed out of its range, nouns without a training picture, or another `told`.
    """

    def __init__(
        self,
        count: int = COUNT,
        seed: int = 0,
        nouns: Sequence[str] | None = None,
        painted: bool = True,
        told: str = "all",
    ) -> None:
        if not 1 <= count <= MOST or seed < 0:
            raise DataError(
                f"scenes:{count}:{seed} must have a count of 1 to {MOST} and a seed of at least 0"
            )
        if told not in ("all", "nouns"):
            raise DataError(f'told={told!r} must be "all" or "nouns"')
        self.bad: tuple[BadSample, ...] = ()
        self.bad_pairs = 0
        self._words = slice(None) if told == "all" else slice(1, None)
        self.captions: int | None = count * (2 if told == "all" else 1)
        self._count, self._seed = count, seed
        self._kinds = ATTRIBUTES if painted else ("",)
        self._parts: Parts | None = None
        self._chosen = None if nouns is None else tuple(sorted(set(nouns)))
        if self._chosen is not None:
            self._check(self._chosen)

    @classmethod
    def named(cls, name: str) -> "SceneSource":
        """The source that "scenes", "scenes:COUNT" or "scenes:COUNT:SEED" names, or "things" in its place.

        Things are the nouns of `familiar`: they are not painted, and captions name them and nothing else.

        Raises:
            DataError: the name has another form.
        """
        kind, *numbers = name.split(":")
        if kind not in KINDS or len(numbers) > 2 or not all(n.isdecimal() and len(n) < 20 for n in numbers):
            raise DataError(
                f"pairs={name!r} must be scenes or things, with :COUNT or :COUNT:SEED behind (scenes:40:7), "
                f"COUNT from 1 to {MOST} and SEED of at most 19 digits"
            )
        count, seed = (*map(int, numbers), *(COUNT, 0)[len(numbers) :])
        return cls(count, seed) if kind == "scenes" else cls(count, seed, familiar(), False, "nouns")

    def __len__(self) -> int:
        return self._count

    @property
    def nouns(self) -> tuple[str, ...]:
        """Nouns of all objects, sorted."""
        return tuple(self._have().objects) if self._chosen is None else self._chosen

    def read(self, i: int) -> Pair:
        """Scene i with its captions."""
        scene = self.scene(i)
        return Pair(scene.image, _captions(scene.told)[self._words], self.key(i))

    def key(self, i: int) -> str:
        """The key of scene i."""
        return f"scene-{self._seed}-{i:06d}"

    def texts(self, i: int) -> tuple[str, ...]:
        """The captions of scene i."""
        return _captions(self._told(self._rng(i)))[self._words]

    def scene(self, i: int) -> Composed:
        """Scene i with its mask.

        Raises:
            IndexError: i is not in [0, len).
        """
        rng = self._rng(i)
        told = self._told(rng)
        keys, files = zip(*(rng.choice(self._have().objects[t.noun]) for t in told.things), strict=True)
        canvas = self._ground(rng, told.where)
        for _ in range(ATTEMPTS):
            images = [_dressed(rng, file, told, n) for n, file in enumerate(files)]
            try:
                spots = placed(rng, images, told.relation)
                break
            except NoPlaceError:
                continue
        else:
            raise NoPlaceError(f"{self.key(i)}: no place found for {told}")
        instances, objects = paint(canvas, told, images, spots)
        for item, key in zip(objects, keys, strict=True):
            item["sample"] = key
        return Composed(canvas.convert("RGB"), np.asarray(instances), told, objects)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parts": None}

    def _check(self, nouns: tuple[str, ...]) -> None:
        wrong = [noun for noun in nouns if noun not in self._have().objects]
        if wrong or len(nouns) < max(COUNTS):
            have = ", ".join(self._have().objects)
            raise DataError(
                f"nouns={nouns} must be {max(COUNTS)} or more, got {wrong or len(nouns)}: of {have}"
            )

    def _have(self) -> Parts:
        if self._parts is None:
            self._parts = _shipped()
        return self._parts

    def _rng(self, i: int) -> random.Random:
        if not 0 <= i < self._count:
            raise IndexError(f"scene {i} of {self._count}")
        return random.Random(f"scene {self._seed} {i}")

    def _told(self, rng: random.Random) -> Told:
        count, kind = rng.choice(COUNTS), rng.choice(self._kinds)
        nouns = rng.sample(self.nouns, count)
        colours, sizes = rng.sample(sorted(COLOURS), 2), rng.sample(["large", "small"], 2)
        chosen = {"": [], "colour": colours[:1], "colours": colours, "sizes": sizes[: 2 * (count > 1)]}[kind]
        words = [*chosen, "", "", ""]
        things = tuple(Thing(noun, word) for noun, word in zip(nouns, words, strict=False))
        where = rng.choice([*self._have().grounds, "", "", ""])
        return Told(things, rng.choice(sorted(OPPOSITE)) if count > 1 else "", where)

    def _ground(self, rng: random.Random, where: str) -> Image.Image:
        if where in PLAIN:
            return Image.new("RGBA", (SIDE, SIDE), (*PLAIN[where], 255))
        _, file = rng.choice(self._have().places[where])
        return square(rng, _photo(file))


def familiar() -> tuple[str, ...]:
    """The nouns with at least `PICTURES` training pictures, sorted: those that a small model can learn."""
    objects = _shipped().objects
    return tuple(noun for noun in objects if len(objects[noun]) >= PICTURES)


def _captions(told: Told) -> tuple[str, ...]:
    return str(told), told.names


@lru_cache(maxsize=1)
def _shipped() -> Parts:
    return shipped_parts()


@lru_cache(maxsize=512)
def _piece(file: bytes) -> Image.Image:
    """A cut-out, not larger than the scenes need it."""
    piece = cut(file)
    if max(piece.size) > LARGEST:
        piece.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return piece


@lru_cache(maxsize=128)
def _photo(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def _dressed(rng: random.Random, file: bytes, told: Told, n: int) -> Image.Image:
    """The n-th object of a scene in its size and its colour."""
    word = told.things[n].attribute
    if len(told.things) == 1:
        length = rng.uniform(*ALONE)
    else:
        length = (THIRD if n == 2 else SIZES.get(word, SIZES[""])) * rng.uniform(0.92, 1.08)
    image = scaled(_piece(file), SIDE * length, rng.random() < 0.5)
    return tinted(image, word) if word in COLOURS else image
