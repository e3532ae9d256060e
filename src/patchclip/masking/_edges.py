"""Edges in pixel space, and which patches they protect."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from patchclip.errors import ConfigError

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in luminance (ITU-R BT.601)."""


SURROUND = 5
"""Side in patches of what a patch is compared with by colour."""

FAINT = 1e-3
"""Contrast of colours (in standard deviations of pixels) that is rounding: a flat image has none."""

LAST_RESORT = 1e3
"""Subtracted from the score of a protected patch: far above any score, so it is masked after all others."""


def patch_grid(pixels: Float[Tensor, "b 3 h w"], patches: int) -> tuple[int, int]:
    """Rows and columns (gh, gw) of square patches that tile the image: gh * gw = `patches`."""
    h, w = pixels.shape[-2:]
    side = max(1, round((h * w / patches) ** 0.5))
    if (h // side) * (w // side) != patches or h % side or w % side:
        raise ConfigError(
            f"{patches} square patches cannot tile {h} x {w} pixels: crop them to whole patches"
        )
    return h // side, w // side


def luminance(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Weighted sum of the colours, in float32."""
    red, green, blue = pixels.float().unbind(dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def with_border(inner: Float[Tensor, "b y x"]) -> Float[Tensor, "b h w"]:
    """Outermost pixels, where a 3 x 3 kernel would leave the image, repeat the value beside them.

    Padding the image instead makes borders stronger on noise and would protect them.
    """
    return F.pad(inner[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]


def gradient_magnitude(
    pixels: Float[Tensor, "b 3 h w"], side: float, middle: float
) -> Float[Tensor, "b h w"]:
    """Length of the gradient |(Gx, Gy)|: Gx = [side middle side]^T * [-1 0 1], Gy its transpose."""
    gray = luminance(pixels)
    across = gray[:, :, 2:] - gray[:, :, :-2]
    down = gray[:, 2:] - gray[:, :-2]
    gx = side * (across[:, :-2] + across[:, 2:]) + middle * across[:, 1:-1]
    gy = side * (down[:, :, :-2] + down[:, :, 2:]) + middle * down[:, :, 1:-1]
    return with_border(torch.hypot(gx, gy))


def sobel_magnitude(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Length of the Sobel gradient of the luminance: weights 1, 2, 1. Sobel and Feldman 1968."""
    return gradient_magnitude(pixels, 1, 2)


def scharr_magnitude(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Length of the Scharr gradient: weights 3, 10, 3 (rounder than Sobel's), scaled to the same sum of 4.

    Source: Scharr, "Optimal Operators in Digital Image Processing", dissertation, Heidelberg 2000.
    """
    return gradient_magnitude(pixels, 0.75, 2.5)


def laplacian_magnitude(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
    """Absolute Laplacian of the luminance, |left + right + above + below - 4 centre|: blind to ramps."""
    gray = luminance(pixels)
    centre = gray[:, 1:-1, 1:-1]
    beside = gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:] + gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1]
    return with_border((beside - 4 * centre).abs())


DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {
    "sobel": sobel_magnitude,
    "scharr": scharr_magnitude,
    "laplacian": laplacian_magnitude,
}
"""Edge detectors by name: pixels [b,3,h,w] -> strength of edges [b,h,w]."""


def edge_energy(
    pixels: Float[Tensor, "b 3 h w"], patches: int, detector: str = "sobel"
) -> Float[Tensor, "b l"]:
    """Mean edge strength of each patch, row by row."""
    strength = DETECTORS[detector](pixels)
    return F.adaptive_avg_pool2d(strength, patch_grid(pixels, patches)).flatten(1)


def colour_contrast(pixels: Float[Tensor, "b 3 h w"], patches: int) -> Float[Tensor, "b l"]:
    """How far the mean colour of each patch lies from that of the 5 x 5 patches around it.

    c = sqrt(n / (n - 1)) * |m - mean of m over the n patches|, n < 25 at the border; the factor makes borders
    no weaker on noise. A centre-surround difference: Itti, Koch and Niebur, TPAMI 1998, section 2.
    """
    grid = patch_grid(pixels, patches)
    colour = F.adaptive_avg_pool2d(pixels.float(), grid)
    around = F.avg_pool2d(colour, SURROUND, 1, SURROUND // 2, count_include_pad=False)
    count = F.avg_pool2d(torch.ones_like(colour[:1, :1]), SURROUND, 1, SURROUND // 2) * SURROUND**2
    factor = (count / (count - 1).clamp_min(1)).sqrt()
    contrast = factor[:, 0] * (colour - around).norm(dim=1)
    return (contrast - FAINT).clamp_min(0).flatten(1)


def salience(
    pixels: Float[Tensor, "b 3 h w"], patches: int, detector: str, contrast: float
) -> Float[Tensor, "b l"]:
    """Edge energy and colour contrast, each over its mean in the image; edge energy alone at contrast 0."""
    energy = edge_energy(pixels, patches, detector)
    if contrast == 0:
        return energy
    colours = colour_contrast(pixels, patches)
    energy, colours = (x / x.mean(dim=1, keepdim=True).clamp_min(1e-6) for x in (energy, colours))
    return energy + contrast * colours


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


def last_resort(energy: Float[Tensor, "b l"], shield: Bool[Tensor, "b l"]) -> Float[Tensor, "b l"]:
    """What is subtracted from scores: 0 if unprotected, else LAST_RESORT * (1 .. 1.5), rising with energy."""
    relative = energy / energy.amax(dim=1, keepdim=True).clamp_min(1e-12)
    return shield * (LAST_RESORT * (1 + relative / 2))
