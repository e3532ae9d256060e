"""Edges in pixel space, and which patches they protect."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in luminance (ITU-R BT.601)."""


def patch_grid(pixels: Float[Tensor, "b 3 h w"], patches: int) -> tuple[int, int]:
    """Rows and columns (gh, gw) of square patches that tile the image: gh * gw = `patches`."""
    h, w = pixels.shape[-2:]
    side = max(1, round((h * w / patches) ** 0.5))
    if (h // side) * (w // side) != patches or h % side or w % side:
        raise ValueError(f"{patches} square patches cannot tile {h} x {w} pixels: crop them to whole patches")
    return h // side, w // side


def sobel_magnitude(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Length of the Sobel gradient of the luminance, |(Gx, Gy)|.

    Gx = [1 2 1]^T * [-1 0 1] (smooth down, differentiate across); Gy the transpose. Sobel and Feldman 1968.
    Outermost pixels, where the kernel would leave the image, repeat the magnitude beside them: padding the
    image instead makes borders stronger on noise and would protect them. Separable: no convolution.
    """
    red, green, blue = pixels.float().unbind(dim=1)
    gray = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    across = gray[:, :, 2:] - gray[:, :, :-2]
    down = gray[:, 2:] - gray[:, :-2]
    gx = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    gy = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    inner = torch.hypot(gx, gy)
    return F.pad(inner[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]


def edge_energy(pixels: Float[Tensor, "b 3 h w"], patches: int) -> Float[Tensor, "b l"]:
    """Mean Sobel magnitude of each patch, row by row."""
    return F.adaptive_avg_pool2d(sobel_magnitude(pixels), patch_grid(pixels, patches)).flatten(1)


def protected(energy: Float[Tensor, "b l"], share: float) -> Bool[Tensor, "b l"]:
    """Patches whose energy lies above the (1 - share) quantile of their own image.

    At most floor(share * l) patches; none in a flat image, because nothing there lies above the rest.
    """
    patches = energy.shape[1]
    below = patches - int(share * patches + 1e-6)
    if below <= 0:
        return torch.ones_like(energy, dtype=torch.bool)
    threshold = energy.kthvalue(below, dim=1, keepdim=True).values
    return energy > threshold
