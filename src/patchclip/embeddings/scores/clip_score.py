"""CLIPScore: how well a caption fits its image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.errors import ConfigError


@dataclass(frozen=True)
class ClipScore:
    """The cosine of an image with its text, cut at zero and stretched.

    score = weight * max(cos(image, text), 0)

    Source: Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", EMNLP 2021,
    arXiv 2104.08718, section 3.
    Differs: the paper puts "A photo depicts" before every caption: that is for whoever embeds the texts.
    Where the cosine is below zero the gradient is zero, as the formula says.

    Args:
        weight: of the cosine, > 0.

    Raises:
        ConfigError: a weight that is not above 0.
    """

    weight: float = 2.5

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(f"weight={self.weight} must be above 0: the paper's is 2.5")

    def __call__(self, image: Float[Tensor, "b e"], text: Float[Tensor, "b e"]) -> Float[Tensor, "b"]:
        """Scores in [0, weight], float32 for half precision; embeddings of any length, zeros score 0."""
        dtype = torch.promote_types(image.dtype, torch.float32)
        one, other = (F.normalize(each.to(dtype), dim=-1) for each in (image, text))
        return self.weight * (one * other).sum(dim=-1).clamp_min(0)
