"""Matryoshka: a loss of embeddings, and of their first numbers alone."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses._rows import both_ways, table, widened

SHORTEST = 8
"""Where halving stops if no prefixes are named."""
EMBEDDINGS = ("negative_text", "short_text", "negative_image", "teacher_image", "teacher_text")
"""Extras in the space of the model's embeddings, which are cut as these are."""


class MatryoshkaLoss(nn.Module):
    """Another loss, summed over prefixes of the embeddings, so that these can be cut afterwards.

    L = sum_d weights_d inner(unit(X[:, :d]), unit(T[:, :d]), s, bias)

    Source: Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022, arXiv 2205.13147, equation
    (1) (weights 1, prefixes by halving); for images and texts: Koukounas et al., "jina-clip-v2: Multilingual
    Multimodal Embeddings for Text and Images", 2024, arXiv 2412.08802, whose released configuration has
    prefixes of 32, 64, 128, 256, 512, 768 and 1024.
    Differs: of jina-clip-v2 this is the sum over prefixes alone.

    Args:
        wraps: the inner loss, as the command line writes methods: "clip" or "clip:label_smoothing=0.1".
        dims: lengths of the prefixes, each >= 1, no one twice; () is the whole and its halves down to 8.
        weights: of the prefixes, each > 0; () is 1 for all. Needs `dims`.

    Raises:
        ConfigError: prefixes or weights outside their range, or not as many weights as prefixes.
    """

    inner: Any
    """The inner loss. Whoever uses this one sets it; `wraps="clip"` works without, as plain InfoNCE."""

    def __init__(
        self, wraps: str = "clip", dims: tuple[int, ...] = (), weights: tuple[float, ...] = ()
    ) -> None:
        super().__init__()
        if not all(d >= 1 for d in dims) or len({*dims}) < len(dims):
            raise ConfigError(f"dims={dims} must be at least 1 each, and no one twice: dims=[32, 64, 128]")
        if not all(weight > 0 for weight in weights) or (weights and len(weights) != len(dims)):
            raise ConfigError(f"weights={weights} must be above 0, one for each of dims={dims}")
        self.wraps, self.dims, self.weights = wraps, tuple(dims), tuple(weights)
        self.inner = None

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The inner loss's terms for each prefix, as "contrastive_32"; those of the whole keep their names.

        Args:
            image: unit-length image embeddings.
            text: unit-length text embeddings; row i describes image i.
            logit_scale: inverse temperature (already exponentiated), 0-d; the same for all prefixes.
            logit_bias: of the model if it has one; the same for all prefixes.
            extras: those of the inner loss; embeddings of this space (`EMBEDDINGS`) are cut, too.

        Raises:
            ConfigError: a prefix longer than the embeddings, or no inner loss.
        """
        width = image.shape[1]
        dims = self.dims or halves(width)
        if max(dims) > width:
            raise ConfigError(f"dims={dims} must not be above {width}, the numbers of an embedding")
        terms: dict[str, Tensor] = {}
        for d, weight in zip(dims, self.weights or (1.0,) * len(dims), strict=True):
            cut = {name: prefix(value, d) if name in EMBEDDINGS else value for name, value in extras.items()}
            found = self.part(prefix(image, d), prefix(text, d), logit_scale, logit_bias, cut)
            terms |= {name if d == width else f"{name}_{d}": weight * term for name, term in found.items()}
        return terms

    def part(
        self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None, extras: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Terms of the inner loss for one prefix."""
        if self.inner is not None:
            found: dict[str, Tensor] = self.inner(image, text, scale, bias, **extras)
            return found
        if self.wraps != "clip":
            raise ConfigError(
                f"wraps={self.wraps!r}, but this loss was not given it: set its attribute `inner` to that "
                "loss (patchclip train does), or leave wraps out for CLIP's"
            )
        return {"contrastive": both_ways(table(image, text, scale, bias))}


def halves(width: int) -> tuple[int, ...]:
    """The width, its half and so on, rounded down, while that leaves 8 numbers or more."""
    found = [width]
    while found[-1] // 2 >= SHORTEST:
        found.append(found[-1] // 2)
    return tuple(found)


def prefix(rows: Float[Tensor, "b e"], d: int) -> Float[Tensor, "b d"]:
    """The first d numbers of each row, of unit length again; the rows themselves where these are all."""
    return rows if d == rows.shape[1] else F.normalize(widened(rows[:, :d]), dim=1)
