"""A tower of arithmetic and pairs whose kept tokens are known, for the tests of data/features.py."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from patchclip.contracts import BadSample, Pair
from patchclip.data.features import FeatureSource, Filling, open_features
from tests.data._make import ListSource

PATCHES, WIDTH, ROWS = 4, 3, 4
SHARD_BYTES = 2 * PATCHES * WIDTH * ROWS
"""Of shards of four images."""


def pixels(image: Image.Image) -> Tensor:
    """The colours of two pixels [3, 2, 1]."""
    return torch.tensor([image.getpixel((0, 0))] * 2, dtype=torch.float32).T[..., None] / 255


class Encode:
    """Colour times 1 to PATCHES; counts what it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, colours: Tensor) -> Tensor:
        self.seen += len(colours)
        return torch.arange(1.0, PATCHES + 1)[:, None] * colours[:, None, :, 0, 0]


def pairs(count: int, bad: tuple[int, ...] = ()) -> ListSource:
    return ListSource([f"no. {i}" if i in bad else (f"{i} a", f"{i} b") for i in range(count)])


def opened(
    folder: Path, source: ListSource, encode: Encode | None = None, **options: object
) -> FeatureSource:
    filling = Filling(**{"batch_size": 3, **options})
    return open_features(source, folder, "model-1", encode or Encode(), pixels, filling)


def expected(source: ListSource, i: int) -> Tensor:
    return Encode()(pixels(source.read(i).image)[None])[0].half()


def check_rows(kept: FeatureSource, source: ListSource) -> None:
    """Each row is that of its image, or bad."""
    assert len(kept) == len(source)
    for i, entry in enumerate(source.entries):
        found = kept.read(i)
        if isinstance(entry, str):
            assert found == BadSample(source.key(i), entry)
        else:
            assert isinstance(found, Pair)
            assert torch.equal(found.image, expected(source, i))
            assert (found.captions, found.key) == (entry, source.key(i))
