"""GEM: a second path of self-self attention by queries, keys and values, clustered by iteration."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.contracts import Block, ImageTower, Patches
from patchclip.dense.methods._attention import attend
from patchclip.dense.methods._blocks import read_beside
from patchclip.errors import ConfigError


@dataclass(frozen=True)
class GEM:
    """A second path beside the last blocks: the mean of three self-self attentions, without the MLPs.

    For each p of q, k, v: p <- unit(p); p <- unit(softmax(s p p^T) p), `iterations` times;
    o_p = softmax(s p p^T) v;  path <- path + W_o (o_q + o_k + o_v) / 3;
    s = mean_i |LN(x)_i| / sqrt(dm) of each image, the inverse of the adaptive temperature.

    Source: Bousselham, Petersen, Ferrari, Kuehne, "Grounding Everything: Emerging Localization Properties in
    Vision-Language Transformers", CVPR 2024, arXiv 2312.00878, section 3 and its released code (depth,
    iterations, and the tokens that the mean norm is taken of).
    Differs: the released code counts its depth as 7 for 6 blocks, and copies the weights of the model. Its
    min-max scaling of each heat map stays out.

    Args:
        depth: last blocks with a second path, >= 1.
        iterations: of the clustering before values are mixed, >= 0.
        inverse_temperature: s, the same for every image, > 0; None for the adaptive one.

    Raises:
        ConfigError: an argument outside its range, or `depth` above the blocks of the tower.
    """

    depth: int = 6
    iterations: int = 1
    inverse_temperature: float | None = None

    def __post_init__(self) -> None:
        if self.depth < 1 or self.iterations < 0:
            raise ConfigError(
                f"depth={self.depth} must be at least 1 and iterations={self.iterations} at least 0"
            )
        if self.inverse_temperature is not None and not self.inverse_temperature > 0:
            raise ConfigError(f"inverse_temperature={self.inverse_temperature} must be above 0, or None")

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the tower's grid."""
        return read_beside(tower, pixels, self.depth, self.ensemble)

    def ensemble(self, block: Block, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b m t dm"]:
        """Mean of the values mixed by queries, keys and values, for each head."""
        q, k, v = block.qkv(tokens)
        sharpness = self.sharpness(block, tokens, v.shape[-1])
        return (self.mixed(q, v, sharpness) + self.mixed(k, v, sharpness) + self.mixed(v, v, sharpness)) / 3

    def sharpness(self, block: Block, tokens: Tensor, width: int) -> Tensor | float:
        """The inverse temperature s, [b, 1, 1, 1] float32 where it is adaptive."""
        if self.inverse_temperature is not None:
            return self.inverse_temperature
        norms: Tensor = block.normed(tokens).float().norm(dim=-1).mean(dim=-1)
        return norms[:, None, None, None] * width**-0.5

    def mixed(self, points: Tensor, values: Tensor, sharpness: Tensor | float) -> Float[Tensor, "b m t dm"]:
        """Values mixed by the self-self attention of `points`, which gather in clusters first."""
        points = F.normalize(points, dim=-1)
        for _ in range(self.iterations):
            points = F.normalize(attend((points * sharpness).to(points), points, points, scale=1.0), dim=-1)
        points = points.to(values)
        return attend((points * sharpness).to(values), points, values, scale=1.0)
