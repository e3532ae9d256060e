"""ProxyCLIP: patches attend as another network finds them alike."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.contracts import ImageTower, Patches
from patchclip.dense.methods._blocks import run_until
from patchclip.dense.methods._proxy import check_name, checked, made, resized, size_for
from patchclip.errors import ConfigError

GRIDS = ("clip", "proxy")


@dataclass(frozen=True)
class ProxyCLIP:
    """Mixes the values of the last block by the similarity of a proxy network's features, such as DINO's.

    S_ij = cos(g_i, g_j), g the proxy's last features;  A = softmax_j(gamma (S_ij - beta mean(S))) over the j
    where this is not negative;  f = finish(W_o A v), the same A for every head, no residual, no MLP.

    Source: Lan et al., "ProxyCLIP: Proxy Attention Improves CLIP for Open-Vocabulary Segmentation", ECCV
    2024, arXiv 2408.04883, section 3 (proxy attention, adaptive normalisation and masking).
    Differs: the paper resizes the values to the proxy's grid (`grid="proxy"`); by default the proxy's
    features are resized to the tower's, so that the grid is the same for every method. A patch always
    attends to itself: where nearly all features agree the released code masks whole rows and gives NaN. S is
    float32 at any precision (released: float16). Images are resized to whole patches of the proxy, not
    padded.

    Args:
        proxy: any backbone of timm, by name.
        pretrained: whether timm's weights of that name are used (a download, once); False for random ones.
        weights: file of the proxy's weights, instead of a download; read without unpickling.
        beta: how many times the mean similarity must be exceeded, >= 0.
        gamma: sharpness of the softmax, > 0.
        grid: of the result, "clip" or "proxy".

    Raises:
        ConfigError: an argument outside its range, or an unknown backbone.
        CheckpointError: weights that cannot be had or read.
    """

    proxy: str = "vit_base_patch8_224.dino"
    pretrained: bool = True
    weights: str | None = None
    beta: float = 1.2
    gamma: float = 3.0
    grid: str = "clip"
    _held: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.beta >= 0 or not self.gamma > 0:
            raise ConfigError(f"beta={self.beta} must be at least 0 and gamma={self.gamma} above 0")
        if self.grid not in GRIDS:
            raise ConfigError(f"grid={self.grid!r} must be one of {', '.join(GRIDS)}")
        check_name(self.proxy)

    def using(self, module: nn.Module) -> "ProxyCLIP":
        """The same method with a proxy at hand, a module as timm makes them.

        Raises:
            ConfigError: the module has no `forward_intermediates`, `pretrained_cfg` or `feature_info`.
        """
        other = replace(self)
        other._held["module"] = checked(module)
        return other

    def __call__(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Patches:
        """Patch features, not normalised, on the grid that `grid` names."""
        tokens, grid = run_until(tower, pixels, 1)
        block = tower.blocks[-1]
        values = block.qkv(tokens)[2][:, :, tower.prefix :]
        points = self.features(tower, pixels)
        if self.grid == "clip":
            points = resized(points, grid)
        elif grid != points.shape[2:]:
            maps = values.transpose(2, 3).flatten(1, 2).unflatten(2, grid)
            grid = (points.shape[2], points.shape[3])
            values = resized(maps, grid).flatten(2).unflatten(1, (values.shape[1], -1)).transpose(2, 3)
        pairs = zip(
            F.normalize(points.flatten(2), dim=1), values, strict=True
        )  # one map of weights at a time
        mixed = torch.stack([self.attention(each).to(v) @ v for each, v in pairs])
        return Patches(tower.finish(block.merge(mixed)), grid)

    def attention(self, points: Float[Tensor, "c l"]) -> Float[Tensor, "l l"]:
        """Weights of one image, float32, of unit-length features; rows sum to 1."""
        with torch.autocast(points.device.type, enabled=False):
            similarity = points.T @ points
            logits = self.gamma * (similarity - self.beta * similarity.mean())
            alone = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
            return logits.masked_fill((logits < 0) & ~alone, float("-inf")).softmax(dim=-1)

    def features(self, tower: ImageTower, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c ph pw"]:
        """The proxy's last features, float32, of the pixels normalised as the proxy expects them."""
        module = self.module(pixels.device)
        stated = module.pretrained_cfg
        mean, std, own_mean, own_std = (
            pixels.new_tensor(numbers)[:, None, None]
            for numbers in (*tower.normalisation, stated["mean"], stated["std"])
        )
        pixels = (pixels * std + mean - own_mean) / own_std
        pixels = resized(pixels, size_for(module, (pixels.shape[2], pixels.shape[3])))
        maps: list[Tensor] = module.forward_intermediates(
            pixels, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps[-1].float()

    def module(self, device: torch.device) -> Any:
        """The proxy, made once, on a device."""
        if "module" not in self._held:
            self._held["module"] = (
                made(self.proxy, self.pretrained, self.weights).requires_grad_(False).eval()
            )
        return self._held["module"].to(device)
