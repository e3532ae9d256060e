"""The outcome of one suite on one data set, and its form on disk: clip_benchmark's schema and some extras."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patchclip.contracts import BadSample

BAD_SHOWN = 10


@dataclass(frozen=True)
class Result:
    """Metrics of one model on one data set.

    Args:
        dataset: name of the data set.
        task: "zeroshot_classification" or "zeroshot_retrieval", as clip_benchmark calls them.
        metrics: by clip_benchmark's names, each in [0, 1]; a k above the size of the data set is absent.
        chance: chance level of the metrics, by the same names.
        images: images that were scored.
        classes: classes, 0 for retrieval.
        captions: captions, 0 for classification.
        bad: images that could not be read and were left out.
        model: name of the encoder.
        seconds: time it took.
        details: what the report shows beside the numbers: worst classes, retrieved examples.
    """

    dataset: str
    task: str
    metrics: dict[str, float]
    chance: dict[str, float]
    images: int
    classes: int = 0
    captions: int = 0
    bad: tuple[BadSample, ...] = ()
    model: str = ""
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """clip_benchmark's schema (dataset, model, pretrained, task, metrics, language) and our extras."""
        model, pretrained = _model_and_tag(self.model)
        return {
            "dataset": self.dataset,
            "model": model,
            "pretrained": pretrained,
            "task": self.task,
            "metrics": dict(self.metrics),
            "language": "en",
            "chance": dict(self.chance),
            "images": self.images,
            "classes": self.classes,
            "captions": self.captions,
            "bad": len(self.bad),
            "bad_first": [[sample.key, sample.reason] for sample in self.bad[:BAD_SHOWN]],
            "seconds": round(self.seconds, 3),
            "details": self.details,
        }

    def save(self, folder: Path) -> Path:
        """Writes `folder`/<dataset>.json atomically: a reader sees the old file or the new one."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.dataset.replace('/', '_')}.json"
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        partial.write_text(
            json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8"
        )
        partial.replace(path)
        return path


def _model_and_tag(name: str) -> tuple[str, str]:
    if name.startswith("hf-hub:") or "/" in name or ":" not in name:
        return name, ""
    model, _, tag = name.partition(":")
    return model, tag
