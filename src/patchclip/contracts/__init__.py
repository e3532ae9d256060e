"""What travels between the folders: shapes, small dataclasses and the Protocols of the seams.

Letters in every shape of the project:

    b  images (batch)            k  patches kept by a mask       n  texts
    l  patches, l = gh * gw      d  width of a token             c  classes
    h w  pixels                  e  width of an embedding        s  text tokens

A method of the literature implements one Protocol in one file and knows nothing else of patchclip.
"""

from patchclip.contracts.captions import (
    Counting,
    LongContext,
    Reducer,
    SeededTokenizer,
    TextCorruptor,
    Words,
)
from patchclip.contracts.embeddings import (
    Adapter,
    Analysis,
    CaptionAdapter,
    MapFitter,
    ScoreFunction,
    Shots,
    TowerAdapter,
)
from patchclip.contracts.masks import (
    Guided,
    Masker,
    Resizing,
)
from patchclip.contracts.pairs import (
    BadSample,
    Batch,
    Pair,
)
from patchclip.contracts.towers import (
    Block,
    DenseMethod,
    Encoder,
    ImageTower,
    Patches,
    PatchHead,
    Pooling,
    Readout,
)
from patchclip.contracts.training import (
    ClipStats,
    GradClipper,
    Loss,
    Wrapping,
)

__all__ = [
    "Adapter",
    "Analysis",
    "BadSample",
    "Batch",
    "Block",
    "CaptionAdapter",
    "ClipStats",
    "Counting",
    "DenseMethod",
    "Encoder",
    "GradClipper",
    "Guided",
    "ImageTower",
    "LongContext",
    "Loss",
    "MapFitter",
    "Masker",
    "Pair",
    "PatchHead",
    "Patches",
    "Pooling",
    "Readout",
    "Reducer",
    "Resizing",
    "ScoreFunction",
    "SeededTokenizer",
    "Shots",
    "TextCorruptor",
    "TowerAdapter",
    "Words",
    "Wrapping",
]
