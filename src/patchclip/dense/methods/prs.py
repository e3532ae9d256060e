"""PRS: what each patch adds to the image embedding, summed over layers and heads."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import ImageTower, Patches, Pooling
from patchclip.errors import ConfigError, TowerError


@dataclass(frozen=True)
class PRS:
    """Patches as what they add to the image embedding when the heads of all layers read them.

    f_i = sum_{l,h} attention_{l,i,h}, the summands of z = start + sum (attention + mlp) + bias

    A product with a text says how much the patch adds to the image's product with it: f_i . text. The whole
    sum over patches is a part of the image embedding; the class token's own part, MLPs and biases stay out.

    Source: Gandelsman, Efros, Steinhardt, "Interpreting CLIP's Image Representation via Text-Based
        Decomposition", ICLR 2024, arXiv 2310.05916, section 5 (image tokens) and its released code.
    Differs: biases and the mean of the final norm are not spread over the patches. Where features are brought
        to unit length, as `patchclip segment` does, their direction counts and not how much they add. The
        mean over classes that the released code subtracts from its heat maps stays out.

    Args:
        last: layers that count, from the end, >= 1; None for all.

    Raises:
        ConfigError: `last` below 1 or above the layers of the tower.
        TowerError: a tower whose embedding is no sum over heads (see the page of the decomposition).
    """

    last: int | None = None

    def __post_init__(self) -> None:
        if self.last is not None and self.last < 1:
            raise ConfigError(f"last={self.last} must be at least 1, or None for all layers")

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""
        count = len(tower.blocks)
        if self.last is not None and self.last > count:
            raise ConfigError(f"last={self.last} must be at most {count}: the layers of this image tower")
        if not isinstance(tower, Pooling):
            raise TowerError(f"{type(tower).__name__} does not say how it pools: it needs a readout")
        tokens, grid = tower.embed(pixels)
        before = []
        for block in tower.blocks:
            before.append(tokens)
            tokens = block(tokens)
        readout, features = tower.readout(tokens), tokens.new_zeros(())
        for block, each in list(zip(tower.blocks, before, strict=True))[-(self.last or count) :]:
            added = readout.attended(block, each, by_token=True, by_head=False)
            features = features + added[:, tower.prefix :, 0]
        return Patches(features, grid)
