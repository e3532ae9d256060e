"""Shots of a shipped set for the small CLIP, and what it makes of the test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments._frame import Setting


@dataclass(frozen=True)
class Task:
    """Some classes of a set: shots to learn from, pixels to be asked, and a prompt of each class."""

    shots: Any
    tokens: Tensor
    pixels: Tensor
    labels: Tensor

    def accuracy(self, model: Any) -> float:
        """Share of the test images whose own prompt is the nearest."""
        with torch.no_grad():
            image = torch.cat([model.encode_image(part) for part in self.pixels.split(32)])
            texts = F.normalize(model.encode_text(self.tokens), dim=-1)
        return float(((F.normalize(image, dim=-1) @ texts.T).argmax(1) == self.labels).float().mean())


def batch(setting: Setting) -> int:
    """Images of an update: 16, or 2."""
    return 2 if setting.quick else 16


def task(
    setting: Setting, encoder: Any, name: str, chosen: Sequence[int] | None = None, most: int = 16
) -> Task:
    """A task of these classes of a shipped set (None: all), with up to `most` shots each, drawn by the seed.

    Args:
        setting: of the experiment.
        encoder: the base.
        name: of a shipped set with a training split.
        chosen: classes; their labels become 0, 1 ...
        most: shots of a class.
    """
    from patchclip.adapt.shots import ImageShots
    from patchclip.data.benchmarks import load_benchmark

    test: Any = load_benchmark("samples", name)
    train: Any = load_benchmark("samples", name, "train")
    classes = list(range(len(test.classnames)) if chosen is None else chosen)
    generator, numbers, labels = setting.generator(), [], []
    for label, kind in enumerate(classes):
        rows = torch.as_tensor(train.labels == kind).nonzero().flatten()
        drawn = rows[torch.randperm(len(rows), generator=generator)[: 1 if setting.quick else most]].tolist()
        numbers += drawn
        labels += [label] * len(drawn)
    asked = [i for i, kind in enumerate(test.labels.tolist()) if kind in classes][
        : 4 if setting.quick else None
    ]
    return Task(
        ImageShots(train.images, torch.tensor(labels), encoder.preprocess, numbers),
        encoder.tokenizer([test.prompts(kind)[0] for kind in classes]),
        torch.stack([encoder.preprocess(test.images[i]) for i in asked]),
        torch.tensor([classes.index(int(test.labels[i])) for i in asked]),
    )
