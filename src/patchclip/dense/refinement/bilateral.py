"""Joint bilateral filter: scores averaged over what is near in place and colour."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.errors import ConfigError


@dataclass(frozen=True)
class Bilateral:
    """Each pixel becomes the mean of its surroundings, weighted by distance and by likeness of colour.

    s(p) <- sum_q w(p, q) s(q) / sum_q w(p, q),
    w(p, q) = exp(-|p - q|^2 / 2 space^2) exp(-|I(p) - I(q)|^2 / 2 colour^2), q = p + spacing * (i, j) within
    `radius` in each direction.

    Source: Tomasi and Manduchi, "Bilateral Filtering for Gray and Color Images", ICCV 1998;
    Kopf, Cohen, Lischinski, Uyttendaele, "Joint Bilateral Upsampling", SIGGRAPH 2007 (the weights are
    the image's, the values another map's).
    Differs: upsampling is bilinear and comes first, and of the surroundings every `spacing`-th pixel is read:
    scores come from patches of 16 pixels and hold nothing finer.

    Args:
        space: standard deviation of the distance in pixels, > 0.
        colour: standard deviation of the distance of colours, in [0, sqrt(3)] for RGB in [0, 1], > 0.
        radius: pixels in each direction, at least `spacing`.
        spacing: pixels between those that are read, at least 1.
        iterations: at least 1.

    Raises:
        ConfigError: an option outside its range.
    """

    space: float = 8.0
    colour: float = 0.1
    radius: int = 16
    spacing: int = 4
    iterations: int = 2

    def __post_init__(self) -> None:
        for name in ("space", "colour"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be above 0: a standard deviation")
        if not 1 <= self.spacing <= self.radius:
            raise ConfigError(f"spacing={self.spacing} must be in [1, radius={self.radius}] pixels")
        if self.iterations < 1:
            raise ConfigError(f"iterations={self.iterations} must be at least 1")

    def __call__(
        self, scores: Float[Tensor, "n h w"], image: Float[Tensor, "3 h w"]
    ) -> Float[Tensor, "n h w"]:
        """The refined scores: each a convex combination of given ones of the same name.

        Args:
            scores: of the names that are refined.
            image: RGB in [0, 1], of the same size.
        """
        refined = scores.float()
        for _ in range(self.iterations):
            refined = self.once(refined, image.float())
        return refined

    def once(self, scores: Float[Tensor, "n h w"], image: Float[Tensor, "3 h w"]) -> Float[Tensor, "n h w"]:
        """One pass: beyond the border there is nothing to average."""
        height, width = image.shape[1:]
        reach = self.radius // self.spacing * self.spacing
        pad = [reach] * 4
        around, colours = F.pad(scores, pad), F.pad(image, pad)
        inside = F.pad(torch.ones_like(image[0]), pad)
        total, mass = torch.zeros_like(scores), torch.zeros_like(image[0])
        for y in range(-reach, reach + 1, self.spacing):
            for x in range(-reach, reach + 1, self.spacing):
                rows = slice(reach + y, reach + y + height)
                columns = slice(reach + x, reach + x + width)
                distance = (colours[:, rows, columns] - image).square().sum(dim=0)
                near = math.exp(-(y * y + x * x) / (2 * self.space**2))
                weights = near * (distance / (-2 * self.colour**2)).exp() * inside[rows, columns]
                total.addcmul_(weights, around[:, rows, columns])
                mass += weights
        return total / mass
