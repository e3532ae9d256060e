"""Scores of all pairs of images and texts where the image's vector depends on the text, block by block."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def pairwise(
    patches: Float[Tensor, "b l e"], texts: Float[Tensor, "n e"], temperature: float, block: int
) -> Float[Tensor, "b n"]:
    """phi_ij = cos(sum_t a_ijt V_it, T_j) with a_ij = softmax_t(cos(V_it, T_j) / temperature).

    A pooled vector that vanishes (all patches of an image are zero, or they cancel to less than 3.5e-4 of the
    longest) scores 0; NaN stays NaN. Computed in float32 (float64 of float64) under any autocast, for vectors
    of lengths between 1e-18 and 1e18.

    Args:
        patches: V, of any length.
        texts: T, of any length.
        temperature: of the softmax over the l patches, > 0.
        block: image-text-patch triples held at one time, at least; one image with one text is never cut.

    Returns:
        Scores in [-1, 1]. Where gradients flow, each block is computed again in the backward, so that what
        is held grows with b l e + n e + b n and never with b n l.
    """
    exact = torch.float64 if patches.dtype == texts.dtype == torch.float64 else torch.float32
    with torch.autocast(patches.device.type, enabled=False):
        units = directions(texts.to(exact))
        columns = max(1, min(len(texts), block // max(1, patches.shape[1])))
        rows = max(1, block // max(1, columns * patches.shape[1]))
        parts = units.split(columns)
        graph = torch.is_grad_enabled() and (patches.requires_grad or texts.requires_grad)
        bands = [
            torch.cat([_block(some, part, temperature, exact, graph) for part in parts], dim=1)
            for some in patches.split(rows)
        ]
        return torch.cat(bands)


def _block(
    patches: Tensor, units: Tensor, temperature: float, exact: torch.dtype, graph: bool
) -> Float[Tensor, "b n"]:
    if not graph:
        return scores(patches.to(exact), units, temperature)
    again: Tensor = checkpoint(
        lambda some, part: scores(some.to(exact), part, temperature),
        patches,
        units,
        use_reentrant=False,
        preserve_rng_state=False,
    )
    return again


def scores(
    patches: Float[Tensor, "b l e"], units: Float[Tensor, "n e"], temperature: float
) -> Float[Tensor, "b n"]:
    """The scores of one block: sum_t a_ijt V_it . T_j / sqrt(a_ij^t (V_i V_i^t) a_ij), `units` of length 1.

    With the Gram matrix V_i V_i^t no pooled vector is formed; where an image has more patches than a patch
    has numbers, pooling is cheaper and gives the same length.
    """
    along, shares = weights(patches, units, temperature)
    if patches.shape[1] <= patches.shape[2]:
        squared = (shares @ (patches @ patches.mT) * shares).sum(dim=-1)
    else:
        squared = (shares @ patches).square().sum(dim=-1)
    largest = patches.detach().square().sum(dim=-1).amax(dim=-1, keepdim=True)
    gone = squared <= largest * torch.finfo(squared.dtype).eps  # zero up to rounding; NaN is not gone
    length = torch.where(gone, 1, squared).sqrt()
    return torch.where(gone, 0, (shares * along).sum(dim=-1) / length)


def weights(
    patches: Float[Tensor, "b l e"], units: Float[Tensor, "n e"], temperature: float
) -> tuple[Float[Tensor, "b n l"], Float[Tensor, "b n l"]]:
    """V_it . T_j, and the share of each patch in the pooled vector (they sum to 1 over the patches)."""
    along = units @ patches.mT
    lengths = patches.norm(dim=-1)
    inverse = torch.where(lengths > 0, 1 / torch.where(lengths > 0, lengths, 1), 0)
    shares = torch.softmax(along * (inverse / temperature).unsqueeze(1), dim=-1)
    return along, shares


def directions(rows: Float[Tensor, "*n e"]) -> Float[Tensor, "*n e"]:
    """Rows of unit length; a row of zeros stays, and has no gradient."""
    lengths = rows.norm(dim=-1, keepdim=True)
    return torch.where(lengths > 0, rows / torch.where(lengths > 0, lengths, 1), 0)
