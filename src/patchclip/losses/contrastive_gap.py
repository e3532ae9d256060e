"""CLIP's loss with alignment and uniformity added, against the gap between images and texts."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses._rows import both_ways, table
from patchclip.losses._sphere import alignment, uniformity


class ContrastiveGapLoss(nn.Module):
    """InfoNCE, and pairs that coincide (alignment) on a sphere that is filled evenly (uniformity).

    L = InfoNCE + uniform (U(X) + U(T)) / 2 + align mean_i ||x_i - t_i||^2 + cross U(X, T),
    U(X, T) = log mean_{i != j} exp(-2 ||x_i - t_j||^2),  U(X) = U(X, X)

    Source: Fahim, Murphy, Fyshe, "It's Not a Modality Gap: Characterizing and Addressing the Contrastive
    Gap", 2024, arXiv 2405.18570 (L_CUAXU, and L_CUA with `cross=0`); weights and means as in its released
    code (clips/hf_clip.py); U: Wang and Isola, ICML 2020, arXiv 2005.10242.
    Differs: the released code fixes the temperature at 0.01 in these runs; here it is the model's. A batch of
    one pair, where the released code has the mean of nothing (NaN), has a uniformity of 0.

    U is at most 0 for pairs apart, so the loss can be negative.

    Args:
        uniform: weight of the uniformity of images and of texts, >= 0.
        align: weight of the alignment, >= 0.
        cross: weight of the uniformity between images and texts that do not belong together, >= 0.

    Raises:
        ConfigError: a weight below 0.
    """

    def __init__(self, uniform: float = 1.0, align: float = 1.0, cross: float = 1.0) -> None:
        super().__init__()
        for name, weight in (("uniform", uniform), ("align", align), ("cross", cross)):
            if not weight >= 0:
                raise ConfigError(f"{name}={weight} must be at least 0: 0 leaves the term out, released: 1")
        self.uniform, self.align, self.cross = uniform, align, cross

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The terms "contrastive", "uniformity", "alignment", "cross_uniformity", weighted; 0-d.

        A term of weight 0 is left out.

        Args:
            image: unit-length image embeddings.
            text: unit-length text embeddings; row i describes image i.
            logit_scale: inverse temperature (already exponentiated), 0-d.
            logit_bias: added to every logit if the model has one (the loss does not depend on it).
        """
        terms = {"contrastive": both_ways(table(image, text, logit_scale, logit_bias))}
        if self.uniform:
            terms["uniformity"] = self.uniform * (uniformity(image) + uniformity(text)) / 2
        if self.align:
            terms["alignment"] = self.align * alignment(image, text)
        if self.cross:
            terms["cross_uniformity"] = self.cross * uniformity(image, text)
        return terms
