"""Patches as vectors of their pixels, and vectors of length one."""

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.masking._edges import patch_grid

EPS = 1e-6


def standardised_patches(pixels: Float[Tensor, "b 3 h w"], patches: int) -> Float[Tensor, "b l d"]:
    """Pixels of each patch with mean 0 and variance 1 over all its values, colours together.

    (x - mean) / (std + 1e-6): brightness and contrast go, hue and pattern stay; a flat grey patch is 0, or
    the rounding error of its mean. The cosine of two such patches is their correlation.

    Args:
        pixels: images, cropped to whole patches; half precision is raised to float32.
        patches: number of square patches l that tile an image.
    """
    gh, gw = patch_grid(pixels, patches)
    pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    raster = pixels.unflatten(3, (gw, -1)).unflatten(2, (gh, -1))  # b 3 gh p gw p
    flat = raster.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # b l d
    std, mean = torch.std_mean(flat, dim=2, keepdim=True)
    return (flat - mean) / (std + EPS)


def unit(features: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """Vectors over their length (+ 1e-6), in float32 at least; a zero vector stays zero."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    return features / (torch.linalg.vector_norm(features, dim=-1, keepdim=True) + EPS)
