"""Randomness of masks: one draw for the whole global batch, of which each process takes its own rows."""

import torch
from jaxtyping import Float
from torch import Tensor


def uniform(b: int, n: int, generator: torch.Generator) -> Float[Tensor, "b n"]:
    """Numbers from U[0, 1), one row an image, that follow an image wherever it is computed.

    A generator with `rows = (first, total)` (see `models/slot.SampleGenerator`) stands for a part of a
    batch: numbers are drawn for all `total` images and rows first .. first + b - 1 are taken. So the mask of
    an image does not depend on the number of processes or on micro-batches. One with `shared` gives every
    image the same numbers: at inference an embedding must not depend on an image's place in a batch.

    Args:
        b: images of this part.
        n: numbers an image.
        generator: the only source of randomness; the result lies on its device.
    """
    if getattr(generator, "shared", False):
        return torch.rand(1, n, generator=generator, device=generator.device).expand(b, n)
    first, total = getattr(generator, "rows", (0, b))
    return torch.rand(total, n, generator=generator, device=generator.device)[first : first + b]
