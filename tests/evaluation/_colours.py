"""A model that names the colour of an image, and may be misled by anything white on it."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tests.evaluation._fakes import TableEncoder

COLOURS = {"red": (200, 0, 0), "blue": (0, 0, 200)}


class ColourEncoder(TableEncoder):
    """Embeds an image as the one of two colours that is stronger.

    Args:
        misled: takes an image with white pixels for the other colour.
        collapsed: sees the same in everything.
        strict: sees nothing in an image that is not of one colour throughout.
    """

    def __init__(self, misled: bool = False, collapsed: bool = False, strict: bool = False) -> None:
        words = {name: torch.eye(2)[i] for i, name in enumerate(COLOURS)}
        super().__init__(torch.empty(0), words)
        self.misled, self.collapsed, self.strict = misled, collapsed, strict
        self.preprocess = lambda image: torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        blue = (pixels[:, 2].float().mean((1, 2)) > pixels[:, 0].float().mean((1, 2))).long()
        if self.misled:
            blue = (blue + (pixels.amin(1) > 250).any(2).any(1).long()) % 2
        seen = torch.eye(2)[blue]
        varied = (pixels != pixels[:, :, :1, :1]).flatten(1).any(1)
        lost = torch.full((2,), 0.5**0.5)
        return torch.where((self.collapsed | (self.strict & varied))[:, None], lost, seen)


class ColourImages:
    """Red at even numbers, blue at odd ones."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.fingerprint = f"colours {count}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Image.Image:
        return Image.new("RGB", (40, 30), COLOURS["blue" if index % 2 else "red"])
