"""What an adaptation is asked for, and of which kind its method is."""

import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from patchclip import spec
from patchclip.errors import ConfigError

ADAPTER, TOWERS, CAPTIONS = "adapter", "towers", "captions"
KINDS = {"features": ADAPTER, "shots": TOWERS, "negative": CAPTIONS}
"""Argument of `fit` that only methods of one kind have -> the kind."""

WITHOUT_EFFECT = {
    ADAPTER: ("negatives", "pairs"),
    TOWERS: ("negatives", "pairs", "views"),
    CAPTIONS: ("shots", "new_classes", "views"),
}
READS = {
    ADAPTER: "it learns from the embeddings of labelled images",
    TOWERS: "it reads labelled images themselves",
    CAPTIONS: "it learns from captioned images",
}


@dataclass(frozen=True)
class Settings:
    """How an adaptation is run.

    Args:
        shots: training images of each class, 0 for all; not for methods that learn from captions.
        seeds: draws that figures are means of, >= 1.
        first_seed: of the first draw; the others follow it.
        new_classes: share of the classes, the last ones, that no image is learned from, in [0, 1).
        views: random crops that stand for each training image; 0 for the image as it is. For adapters.
        negatives: corruptor that makes false captions, as NAME:key=value;key=value.
        pairs: captioned images that are used, 0 for all.
        data_root: folder of data sets, or "samples".

    Raises:
        ConfigError: a value outside its range.
    """

    shots: int = 4
    seeds: int = 3
    first_seed: int = 0
    new_classes: float = 0.0
    views: int = 0
    negatives: str = "hard"
    pairs: int = 0
    data_root: str | Path = "samples"

    def __post_init__(self) -> None:
        for name, least in (("shots", 0), ("seeds", 1), ("views", 0), ("pairs", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least {least}")
        if not 0 <= self.new_classes < 1:
            raise ConfigError(f"new_classes={self.new_classes} must be in [0, 1): a share of the classes")

    @property
    def draws(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def check(self, method: str, kind: str) -> None:
        """Raises ConfigError for a value, not the default, that is without effect on methods of this kind."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in WITHOUT_EFFECT[kind] and value != each.default:
                raise ConfigError(
                    f"{each.name}={value} has no effect on {method}: {READS[kind]}; leave it out, or take "
                    "another method (patchclip list adapters)"
                )

    def to_json(self, kind: str) -> dict[str, Any]:
        """Those that have an effect on methods of this kind, as plain values."""
        found = {**vars(self), "data_root": str(self.data_root)}
        return {name: value for name, value in found.items() if name not in WITHOUT_EFFECT[kind]}


def kind_of(method: str) -> str:
    """Whether a method is an adapter on embeddings, one of the towers, or one of captions.

    Args:
        method: NAME or NAME:key=value;key=value of the family "adapt".

    Raises:
        ConfigError: an unknown method or option, or one whose `fit` is none of the three.
    """
    built = spec.build("adapt", method)
    arguments = inspect.signature(built.fit).parameters
    found = [kind for name, kind in KINDS.items() if name in arguments]
    if len(found) != 1:
        raise ConfigError(
            f"method={method!r}: fit({', '.join(arguments)}) must take features, shots or negative: see "
            "Adapter, TowerAdapter and CaptionAdapter in patchclip.contracts"
        )
    return found[0]
