"""PAMR: scores spread to neighbours of the same colour."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.errors import ConfigError

FLOOR = 1e-8
"""Added to the deviation, as in the released code: an area of one colour is averaged evenly."""

OFFSETS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


@dataclass(frozen=True)
class PAMR:
    """Pixel-adaptive mask refinement: each pixel becomes a mean of its neighbours, weighted by colour.

    s(p) <- sum_q a(p, q) s(q),  a(p, .) = softmax_q mean_c -|I_c(p) - I_c(q)| / (temperature * std_c(p)),
    q the 8 neighbours of p at each dilation, std_c(p) over these and p itself; repeated.

    Source: Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, arXiv
    2005.08104, pixel-adaptive mask refinement; the temperature 0.1, and that p counts once a dilation in the
    deviation, by its released code. Dilations, iterations and cosines as the scores by the released code of
    NACLIP (Hajimiri et al., WACV 2025, arXiv 2404.08181).
    Differs: from NACLIP's code, which refines all labels at the size of the image file: here labels that win
    nowhere keep their scores, and the size is the smaller of the image and what the model saw of it.

    Args:
        iterations: at least 1.
        dilations: distances of the neighbours in pixels, each at least 1.
        temperature: > 0; the lower, the fewer neighbours count.

    Raises:
        ConfigError: an option outside its range.
    """

    iterations: int = 10
    dilations: tuple[int, ...] = (8, 16)
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ConfigError(f"iterations={self.iterations} must be at least 1")
        if not self.dilations or min(self.dilations) < 1:
            raise ConfigError(f"dilations={self.dilations} must be distances in pixels, as (8, 16)")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature} must be above 0")

    def __call__(
        self, scores: Float[Tensor, "n h w"], image: Float[Tensor, "3 h w"]
    ) -> Float[Tensor, "n h w"]:
        """The refined scores: each a convex combination of given ones of the same name.

        Args:
            scores: of the names that are refined.
            image: RGB in [0, 1], of the same size.
        """
        affinity = self.affinity(image.float())
        refined = scores.float()
        for _ in range(self.iterations):
            total = torch.zeros_like(refined)
            for weights, neighbour in zip(affinity, self.neighbours(refined), strict=True):
                total.addcmul_(weights, neighbour)
            refined = total
        return refined

    def affinity(self, image: Float[Tensor, "3 h w"]) -> Float[Tensor, "k h w"]:
        """Weight of each neighbour of each pixel; they sum to 1 over the neighbours."""
        count = 9 * len(self.dilations)
        centre = len(self.dilations) * image
        mean = (sum(self.neighbours(image), start=torch.zeros_like(image)) + centre) / count
        squares = len(self.dilations) * (image - mean).square()
        for neighbour in self.neighbours(image):
            squares += (neighbour - mean).square()
        spread = FLOOR + self.temperature * (squares / (count - 1)).sqrt()
        logits = [-((neighbour - image).abs() / spread).mean(dim=0) for neighbour in self.neighbours(image)]
        return torch.stack(logits).softmax(dim=0)

    def neighbours(self, values: Float[Tensor, "c h w"]) -> Iterator[Float[Tensor, "c h w"]]:
        """The values 8 neighbours away at each dilation; the border repeats beyond the image."""
        height, width = values.shape[1:]
        for distance in self.dilations:
            padded = F.pad(values[None], [distance] * 4, mode="replicate")[0]
            for y, x in OFFSETS:
                top, left = distance * (1 + y), distance * (1 + x)
                yield padded[:, top : top + height, left : left + width]
