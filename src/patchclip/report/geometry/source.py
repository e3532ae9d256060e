"""The images and captions that a geometry report is made of."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from patchclip.contracts import BadSample
from patchclip.data.benchmarks import open_sets, resolve
from patchclip.data.pairs import PairSource, open_pairs
from patchclip.data.sets import Images, Retrieval
from patchclip.errors import ConfigError, DataError

FEWEST = 8
"""Pairs that a report needs."""


@dataclass(frozen=True)
class Captioned:
    """Images with one caption each.

    Args:
        name: of the set.
        images: of the set.
        rows: numbers of the images that are looked at, ascending.
        captions: of these.
        kept: whether embeddings may be kept on disk: the set says when its files have changed.
    """

    name: str
    images: Images
    rows: tuple[int, ...]
    captions: tuple[str, ...]
    kept: bool


@dataclass(frozen=True)
class PairImages:
    """The images of a source of pairs, as sets have them."""

    source: PairSource
    name: str

    @property
    def fingerprint(self) -> str:
        """Of the name and the number of pairs: embeddings are not kept beyond a call."""
        return hashlib.sha256(f"{self.name} {len(self.source)}".encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Image.Image:
        found = self.source.read(index)
        if isinstance(found, BadSample):
            raise DataError(f"{found.key}: {found.reason}")
        if not isinstance(found.image, Image.Image):
            raise DataError(f"{found.key}: the pair holds no picture, but {type(found.image).__name__}")
        return found.image.convert("RGB")


def open_captioned(data: str, root: str, count: int, seed: int) -> Captioned:
    """A sample of a set of captioned images; of several captions the first is taken.

    Args:
        data: name of a retrieval set under the root, else a source of pairs as training takes it.
        root: folder of sets, or "samples".
        count: images at most.
        seed: of the sample.

    Raises:
        ConfigError: a count below 8.
        DataError: a set without captions, or of fewer than 8 pairs; nothing of this name.
    """
    if count < FEWEST:
        raise ConfigError(f"count={count} must be at least {FEWEST}: images to look at")
    found = _set(data, root)
    if found is not None:
        rows = _sample(len(found), count, seed)
        texts = [found.captions[row] for row in rows]
        images: Images = found.images
    else:
        source = _pairs(data, root)
        rows = _sample(len(source), count, seed)
        texts, images = [source.texts(row) for row in rows], PairImages(source, data)
    both = [(row, captions[0]) for row, captions in zip(rows, texts, strict=True) if captions]
    if len(both) < FEWEST:
        raise DataError(f"{data} has {len(both)} captioned images: a report needs at least {FEWEST}")
    kept_rows, captions = zip(*both, strict=True)
    return Captioned(data if found is None else found.name, images, kept_rows, captions, found is not None)


def _set(data: str, root: str) -> Retrieval | None:
    """The retrieval set of this name; None where the root has no set of this name."""
    if not Path(root).is_dir() and root != "samples":
        raise DataError(f"data-root={root!r} is no folder: name the folder of your data sets, or samples")
    names, _ = resolve(root, [data])
    if not names:
        return None
    sets = open_sets(root, names)
    found = next((each for each in sets if isinstance(each, Retrieval)), None)
    if found is None:
        raise DataError(f"{data} under {root!r} has no captions: name a retrieval set, or image-text pairs")
    return found


def _pairs(data: str, root: str) -> PairSource:
    try:
        return open_pairs(data)
    except DataError as error:
        raise DataError(
            f"{data!r} is no set under {root!r} (patchclip list datasets names those that ship), and not "
            f"image-text pairs either: {error}"
        ) from error


def _sample(total: int, count: int, seed: int) -> Sequence[int]:
    return range(total) if total <= count else sorted(random.Random(seed).sample(range(total), count))
