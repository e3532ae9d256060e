"""What the model of a run is scored by: the geometry that its loss trains it for."""

from dataclasses import replace
from typing import Any

from patchclip.engine.extras import trait
from patchclip.engine.parts import Parts
from patchclip.models.architectures import Architecture
from patchclip.models.similarity import Cosine, Lifted


def scored(parts: Parts) -> Architecture:
    """The architecture with the similarity of the loss as it is now; that of a frozen model stays its own.

    It goes with averaged weights, too: a loss that learns what its model is scored by is not averaged with.
    """
    if parts.head is not None:
        return parts.architecture
    settings: Any = trait(parts.loss, "similarity")
    found = {} if settings is None else settings(parts.architecture.model_cfg["embed_dim"])
    return replace(parts.architecture, similarity=Lifted(**found) if found else Cosine())
