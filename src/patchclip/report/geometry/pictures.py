"""Pictures of the geometry page: thumbnails, and what each patch adds to the score of a caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from patchclip.data.transforms import denormalise
from patchclip.dense.palette import heat_palette
from patchclip.geometry.explanations.decomposition import Decomposition
from patchclip.report.gallery import data_uri
from patchclip.report.geometry.source import Captioned

SIDE, THUMBNAIL = 208, 96
BLEND = 0.6
"""Share of the heat's colour; the rest is the picture's lightness."""


@dataclass(frozen=True)
class Heat:
    """A picture as the model sees it, the same with its heat, and its caption."""

    picture: str
    heat: str
    caption: str


class Thumbnails:
    """Small pictures of a set by the number of their row, each encoded once."""

    def __init__(self, data: Captioned, rows: Sequence[int]) -> None:
        self.data, self.rows = data, rows
        self._made: dict[int, str] = {}

    def __getitem__(self, row: int) -> str:
        if row not in self._made:
            self._made[row] = data_uri(self.data.images[self.rows[row]], THUMBNAIL, quality=70)
        return self._made[row]


@torch.no_grad()
def heats(
    encoder: Any, data: Captioned, rows: Sequence[int], captions: Sequence[str], texts: Float[Tensor, "n e"]
) -> list[Heat]:
    """What each patch adds to the product with the caption, by attention, less than 0 drawn as 0.

    Args:
        encoder: its preprocessing and tower are used.
        data: the images.
        rows: numbers of the images in the set.
        captions: of these.
        texts: of these: unit-length embeddings less the mean of all captions, so that a map shows what
            speaks for this caption rather than for any.

    Raises:
        TowerError: a tower that cannot be taken apart.
    """
    tower = encoder.tower()
    pixels = torch.stack([encoder.preprocess(data.images[row]) for row in rows]).to(encoder.device)
    with encoder.autocast():
        parts = Decomposition(heads=False)(tower, pixels)
    mean, std = tower.normalisation
    shown = denormalise(pixels.float(), mean=mean, std=std).cpu()  # type: ignore[arg-type]
    found = []
    for i, caption in enumerate(captions):
        heat = parts.heat(texts[i : i + 1])[i, 0].float().cpu()
        picture = Image.fromarray(shown[i].numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        found.append(Heat(data_uri(picture), data_uri(_warm(picture, heat)), caption))
    return found


def _warm(picture: Image.Image, heat: Float[Tensor, "gh gw"]) -> Image.Image:
    """The picture in grey under the colours of its heat."""
    positive = heat.clamp_min(0)
    levels = positive / positive.max().clamp_min(torch.finfo(positive.dtype).tiny)
    small = Image.fromarray((255 * levels).round().to(torch.uint8).numpy())
    large = np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC))
    colours = heat_palette().astype(np.float32)[large]
    grey = np.asarray(picture.convert("L")).astype(np.float32)[..., None]
    return Image.fromarray((BLEND * colours + (1 - BLEND) * grey).round().astype(np.uint8))
