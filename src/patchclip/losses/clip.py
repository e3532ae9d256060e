"""CLIP's InfoNCE."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError


class ClipLoss(nn.Module):
    """Symmetric InfoNCE: each image finds its text and each text its image among the batch.

    L = (CE(s X T^t + bias, diagonal) + CE(s T X^t + bias, diagonal)) / 2

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
    ICML 2021, arXiv 2103.00020, figure 3.

    Equal to open_clip's `ClipLoss`.

    Args:
        label_smoothing: share of the target spread over the other pairs, in [0, 1).

    Raises:
        ConfigError: `label_smoothing` outside its range.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing={label_smoothing} must be in [0, 1): 0 is CLIP's own loss")
        self.label_smoothing = label_smoothing

    def chance(self, batch: int) -> float:
        """The loss of guessing among `batch` pairs, ln(batch): a loss that stays there has not learnt."""
        return math.log(batch)

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The loss as {"contrastive": 0-d tensor}.

        Args:
            image: unit-length image embeddings.
            text: unit-length text embeddings; row i describes image i.
            logit_scale: inverse temperature s (already exponentiated), 0-d.
            logit_bias: added to every logit if the model has one (the loss does not depend on it).
        """
        logits = logit_scale * image @ text.T
        if logit_bias is not None:
            logits = logits + logit_bias
        targets = torch.arange(len(logits), device=logits.device)
        by_image = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        by_text = F.cross_entropy(logits.T, targets, label_smoothing=self.label_smoothing)
        return {"contrastive": (by_image + by_text) / 2}
