"""Proxy networks: backbones of timm, made for images of any size, and what they take."""

from typing import Any

import timm
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import CheckpointError, ConfigError

NEEDED = ("forward_intermediates", "pretrained_cfg", "feature_info")
"""What is asked of a proxy: its features, its normalisation and its stride."""


def check_name(name: str) -> None:
    """Raises ConfigError where timm has no backbone of this name."""
    if not timm.is_model(name):
        raise ConfigError(f"proxy={name!r} must be a backbone of timm: timm.list_models() names them")


def checked(module: nn.Module) -> nn.Module:
    """The module, frozen and in eval mode.

    Raises:
        ConfigError: it lacks what is asked of a proxy.
    """
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise ConfigError(
            f"a proxy must have {', '.join(NEEDED)}, as timm's ViTs, ConvNeXts and ResNets do; "
            f"{type(module).__name__} lacks {', '.join(missing)}"
        )
    return module.requires_grad_(False).eval()


def resized(maps: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c gh gw"]:
    """Maps of another size, bilinear and antialiased; untouched where they have it."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps.float(), size=size, mode="bilinear", antialias=True).to(maps.dtype)


def size_for(module: Any, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width near `size` that the proxy takes: whole patches, or the only size it knows."""
    stated = module.pretrained_cfg
    if stated.get("fixed_input_size", False) and not getattr(module, "dynamic_img_size", False):
        known = getattr(getattr(module, "patch_embed", None), "img_size", None) or stated["input_size"][-2:]
        return int(known[0]), int(known[1])
    step = int(module.feature_info[-1]["reduction"])
    height, width = (max(1, round(side / step)) * step for side in size)
    return height, width


def made(name: str, pretrained: bool, weights: str | None) -> Any:
    """A backbone of timm that takes images of any size, where its kind can.

    Raises:
        CheckpointError: weights that cannot be had or read.
    """
    options: dict[str, Any] = {"pretrained": pretrained or weights is not None, "num_classes": 0}
    if weights is not None:
        options["pretrained_cfg_overlay"] = {"file": weights}
    try:
        try:
            return timm.create_model(name, **options, dynamic_img_size=True)
        except TypeError:  # no ViT: it takes any size, or only its own
            return timm.create_model(name, **options)
    except (OSError, RuntimeError, ValueError) as error:
        source, first = weights or "timm's weights", str(error).partition("\n")[0]
        raise CheckpointError(
            f"proxy={name!r}: {source} cannot be loaded ({type(error).__name__}: {first}); give a file of "
            "this backbone as weights=..., or pretrained=False for random ones"
        ) from error
