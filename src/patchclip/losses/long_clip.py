"""Long-CLIP's primary component matching."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses._components import principal
from patchclip.losses._rows import cross_entropy, table


class LongClipLoss(nn.Module):
    """Whole images match long captions, their principal components match short ones.

    L = CE(s X T_long^t) + weight * CE(s pca_k(X) T_short^t), each the mean of both directions;
    pca_k rebuilds the images' embeddings from the batch's first k principal components (`_components.py`)

    Source: Zhang, Zhang, Dong, Zang, Wang, "Long-CLIP: Unlocking the Long-Text Capability of CLIP",
    ECCV 2024, arXiv 2403.15378, "primary component matching", and the released code (model/model_longclip.py:
    32 components, label smoothing 0.1, both terms alike; a commented earlier one has weight 0.1).
    Differs: the components are those of the whole batch, the released code takes each GPU's own (128
    images). As there the gradient goes through them and rebuilt embeddings are not normalised again; but it
    is finite where singular values meet. A pair without a short caption takes no part in the second term.

    Args:
        components: principal components kept, >= 1. A batch of at most `components` + 1 images stays whole.
        weight: of the short captions' term, >= 0.
        label_smoothing: share of the target spread over the batch, in [0, 1).

    Raises:
        ConfigError: an option outside its range.
    """

    wants: ClassVar[tuple[str, ...]] = ("short_text",)

    def __init__(self, components: int = 32, weight: float = 1.0, label_smoothing: float = 0.1) -> None:
        super().__init__()
        if components < 1 or not 0 <= weight < math.inf:
            raise ConfigError(f"components={components} must be at least 1, weight={weight} finite and >= 0")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing={label_smoothing} must be in [0, 1): the released code has 0.1"
            )
        self.components, self.weight, self.label_smoothing = components, weight, label_smoothing

    def chance(self, batch: int) -> float:
        """The loss of guessing among `batch` pairs that all have a short caption: (1 + weight) ln(batch)."""
        return (1 + self.weight) * math.log(batch)

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        short_text: Float[Tensor, "b e"] | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The loss as {"contrastive": 0-d, "short": 0-d}; without `short_text` only the first.

        Args:
            image: unit-length image embeddings.
            text: unit-length embeddings of the long captions; row i describes image i.
            logit_scale: inverse temperature s (already exponentiated), 0-d.
            logit_bias: added to every logit if the model has one (the loss does not depend on it).
            short_text: unit-length embeddings of the short captions; a row of zeros where there is none.
        """
        terms = {"contrastive": self.both(table(image, text, logit_scale, logit_bias), None)}
        if short_text is not None:
            coarse = principal(image, self.components)
            there = (short_text != 0).any(dim=1)
            terms["short"] = self.weight * self.both(
                table(coarse, short_text, logit_scale, logit_bias), there
            )
        return terms

    def both(self, logits: Float[Tensor, "b b"], there: Tensor | None) -> Tensor:
        """Mean of the cross-entropies of rows and columns, among the pairs that are there (None: all)."""
        weights = None
        if there is not None:
            weights = there.to(logits.dtype)
            own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
            logits = logits.masked_fill(~(there[:, None] & there) & ~own, -torch.inf)
        rows = cross_entropy(logits, None, weights, self.label_smoothing)
        return (rows + cross_entropy(logits.T, None, weights, self.label_smoothing)) / 2
