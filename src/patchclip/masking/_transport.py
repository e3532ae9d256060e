"""Similarity between patches and its balancing by optimal transport."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def cosine_to_all(features: Float[Tensor, "b l d"]) -> Float[Tensor, "b l l"]:
    """Cosine between the patches of one image, after their common mean has been taken away.

    Without the subtraction every pair shares the image's mean colour (or the position and bias part of the
    tokens) and all cosines crowd near 1. A patch that equals the mean has cosine 0 to every other.
    """
    features = features.float()
    centred = features - features.mean(dim=1, keepdim=True)
    unit = F.normalize(centred, dim=-1, eps=1e-6)
    return unit @ unit.transpose(1, 2)


def patch_colours(
    pixels: Float[Tensor, "b 3 h w"], grid: tuple[int, int], cells: int = 4
) -> Float[Tensor, "b l d"]:
    """Each patch as its mean colours on a `cells` x `cells` raster: d = 3 * cells^2."""
    gh, gw = grid
    small = F.adaptive_avg_pool2d(pixels.float(), (gh * cells, gw * cells))
    return F.pixel_unshuffle(small, cells).flatten(2).transpose(1, 2)


def log_sinkhorn(log_kernel: Float[Tensor, "b l l"], iterations: int) -> Float[Tensor, "b l l"]:
    """Logarithm of the doubly stochastic matrix nearest (in relative entropy) to a symmetric kernel.

    P = exp(f_i + M_ij + f_j) with every row and column summing to 1. For a symmetric M one scaling vector
    serves both sides: f <- (f - logsumexp_j(M_ij + f_j)) / 2, a geometric mean of two Sinkhorn half-steps.

    Source: Cuturi, "Sinkhorn Distances", NeurIPS 2013, arXiv 1306.0895; symmetric update as in
    Feydy et al., "Interpolating between OT and MMD using Sinkhorn Divergences", AISTATS 2019, section 3.1.

    Args:
        log_kernel: symmetric M = S / temperature.
        iterations: fixed number of updates (no convergence test: that would be a host sync).

    Returns:
        log P; sums are 1 up to the remaining error of the fixed number of iterations.
    """
    scaling = torch.zeros_like(log_kernel[..., 0])
    for _ in range(iterations):
        scaling = (scaling - torch.logsumexp(log_kernel + scaling.unsqueeze(-2), dim=-1)) / 2
    return scaling.unsqueeze(-1) + log_kernel + scaling.unsqueeze(-2)
