"""What scores of images, of texts and of both have in common."""

from collections.abc import Callable

import torch
from torch import Tensor

from patchclip.errors import ConfigError, DataError

SIDES = ("image", "text", "both")


def check_side(of: str) -> None:
    """Raises ConfigError for a side that there is not."""
    if of not in SIDES:
        raise ConfigError(f"of={of!r} must be one of {', '.join(SIDES)}")


def summed(of: str, image: Tensor, text: Tensor, scores: tuple[Callable[[Tensor], Tensor], ...]) -> Tensor:
    """Scores of the rows that `of` names: those of the images, of the texts, or their sum."""
    if not scores:
        raise DataError("this score knows no reference set yet: call fit(image, text) first")
    found = [
        score(rows.to(torch.promote_types(rows.dtype, torch.float32)))
        for side, rows, score in zip(SIDES, (image, text), scores, strict=False)
        if of in (side, "both")
    ]
    return torch.stack(found).sum(dim=0)
