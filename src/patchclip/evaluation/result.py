"""The outcome of one suite on one data set, and its form on disk: clip_benchmark's schema and some extras."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor

from patchclip._tensors import save_tensors
from patchclip.contracts import BadSample

BAD_SHOWN = 10
LONGEST_NAME = 180


@dataclass(frozen=True)
class Samples:
    """A metric query by query: its mean is the metric.

    Args:
        values: outcome of every query, for instance 1 for a hit.
        group: what a query belongs to (its image's index): a bootstrap draws whole groups.
    """

    values: Float[Tensor, "q"]
    group: Int64[Tensor, "q"]


@dataclass(frozen=True)
class Result:
    """Metrics of one model on one data set.

    Args:
        dataset: name of the data set.
        task: "zeroshot_classification", "zeroshot_retrieval", "linear_probe", "image_caption_selection" as
            clip_benchmark calls them, or one of our own.
        metrics: by clip_benchmark's names where it has them; a k above the size of the data set is absent.
        chance: chance level of the metrics, by the same names; absent where there is none.
        images: images that were scored.
        classes: classes, 0 where there are none.
        captions: captions, 0 where there are none.
        bad: images that could not be read and were left out.
        model: name of the encoder.
        suite: name of the suite.
        seconds: time it took.
        clip_benchmark: metrics as clip_benchmark gives them, only those that differ (ties in favour of the
            model, or a known defect).
        protocol: how it was measured, in one sentence.
        fingerprint: of the set's images, "" where it is not known; equal for the same images.
        samples: metrics query by query, by name; those without are not means over queries.
        details: what the report shows beside the numbers: worst classes, retrieved examples. Plain JSON.
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
    suite: str = ""
    seconds: float = 0.0
    clip_benchmark: dict[str, float] = field(default_factory=dict)
    protocol: str = ""
    fingerprint: str = ""
    samples: Mapping[str, Samples] = field(default_factory=dict, repr=False, compare=False)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """clip_benchmark's schema (dataset, model, pretrained, task, metrics, language) and our extras."""
        model, pretrained = model_and_tag(self.model)
        return {
            "dataset": self.dataset,
            "model": model,
            "pretrained": pretrained,
            "task": self.task,
            "metrics": dict(self.metrics),
            "language": "en",
            "suite": self.suite,
            "protocol": self.protocol,
            "fingerprint": self.fingerprint,
            "chance": dict(self.chance),
            "clip_benchmark": dict(self.clip_benchmark),
            "images": self.images,
            "classes": self.classes,
            "captions": self.captions,
            "bad": len(self.bad),
            "bad_first": [[sample.key, sample.reason] for sample in self.bad[:BAD_SHOWN]],
            "seconds": round(self.seconds, 3),
            "details": self.details,
        }

    @property
    def stem(self) -> str:
        """Name of its files: DATASET_PRETRAINED_MODEL_LANGUAGE_TASK, as clip_benchmark calls them.

        A hash follows where characters had to be replaced or left out, so that no two results share a name.
        """
        model, pretrained = model_and_tag(self.model)
        name = f"{self.dataset}_{Path(pretrained).name}_{model}_en_{self.task}"
        clean = re.sub(r"[^\w.+-]+", "_", name, flags=re.ASCII)[:LONGEST_NAME]
        whole = f"{self.dataset}\0{pretrained}\0{model}\0{self.task}"
        same = clean == name and Path(pretrained).name == pretrained
        return clean if same else f"{clean}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"

    def save(self, folder: Path, **extras: Any) -> Path:
        """Writes `folder`/STEM.json, and STEM.safetensors with the samples, each whole or not at all.

        Args:
            folder: made if need be.
            **extras: further keys of the JSON file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.stem}.json"
        if self.samples:
            tensors = {}
            for name, found in self.samples.items():
                tensors[f"{name}.values"] = found.values.float().cpu().clone()
                tensors[f"{name}.group"] = found.group.cpu().clone()
            partial = path.with_name(f".{path.stem}.{os.getpid()}.safetensors.part")
            save_tensors(tensors, partial)
            partial.replace(path.with_suffix(".safetensors"))
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        partial.write_text(
            json.dumps(self.to_json() | extras, indent=1, ensure_ascii=False, allow_nan=False),
            encoding="utf-8",
        )
        partial.replace(path)
        return path


def model_and_tag(name: str) -> tuple[str, str]:
    """ "ViT-B-32:openai" as ("ViT-B-32", "openai"); a path or hub name is a model without a tag."""
    if name.startswith(("hf-hub:", "hf:")) or ":" not in name or Path(name).exists():
        return name, ""
    model, _, tag = name.partition(":")
    return (name, "") if "/" in model else (model, tag)
