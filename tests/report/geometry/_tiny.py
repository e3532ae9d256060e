"""A small set of captioned pictures, and a tiny model to look at it with."""

from pathlib import Path
from typing import Any

from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.models.towers import ClipEncoder
from patchclip.report.geometry.source import Captioned, open_captioned
from tests.models._tiny import encoder as tiny_encoder
from tests.report._runs import HOSTILE, write_set

CAPTIONS = [
    "a red mug",
    "two dogs",
    "grass",
    "a car on a road",
    HOSTILE,
    "a cat",
    "the sea",
    "a tree",
    "bread",
]


def write(folder: Path) -> Path:
    """A root with one retrieval set, "small"."""
    write_set(folder / "small", CAPTIONS)
    return folder


def captioned(folder: Path) -> Captioned:
    return open_captioned("small", str(write(folder)), 100, 0)


def encoder(kind: str = "native") -> ClipEncoder:
    return tiny_encoder(kind)


def embedder(kind: str = "native", **options: Any) -> Embedder:
    return Embedder(encoder(kind).raw(), Encoding(batch_size=4, threads=1, **options))
