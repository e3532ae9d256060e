"""CLIP's InfoNCE."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses._exchange import Exchange
from patchclip.losses._infonce import InfoNCE
from patchclip.losses._robust import check_robust, clipped, error_norms, smallest


class ClipLoss(nn.Module):
    """Symmetric InfoNCE: each image finds its text and each text its image among the batch.

    L = (CE(s X T^t + bias, diagonal) + CE(s T X^t + bias, diagonal)) / 2

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
    ICML 2021, arXiv 2103.00020, figure 3; `logit_clip`: Wei et al., "Mitigating Memorization of Noisy Labels
    by Clipping the Model Prediction" (LogitClip), ICML 2023, arXiv 2212.04055; `truncate`: Li et al., "Error
    Norm Truncation", ICLR 2024, arXiv 2310.00840.
    Differs: `truncate` drops a share of the rows from the first step on; the paper of error norms starts late
    and has a threshold too. A loss does not know the step: to start late, train without it and start another
    run from those weights.

    Equal to open_clip's `ClipLoss` where no option is set.

    Args:
        label_smoothing: share of the target spread over the other pairs, in [0, 1).
        logit_clip: largest norm of an image's (and of a text's) row of logits, > 0; None is no bound. Norms
            reach s * sqrt(b), so a bound is chosen for a batch size. The bias counts in the norm.
        truncate: share of the rows left out of the mean, those of the largest error norms, in [0, 1); images
            and texts each.

    Raises:
        ConfigError: an option outside its range.
    """

    def __init__(
        self, label_smoothing: float = 0.0, logit_clip: float | None = None, truncate: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing={label_smoothing} must be in [0, 1): 0 is CLIP's own loss")
        check_robust(logit_clip, truncate)
        self.label_smoothing, self.logit_clip, self.truncate = label_smoothing, logit_clip, truncate

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
            logit_bias: added to every logit if the model has one (without `logit_clip` the loss does not
                depend on it).
        """
        logits = logit_scale * image @ text.T
        if logit_bias is not None:
            logits = logits + logit_bias
        return {"contrastive": (self.side(logits) + self.side(logits.T)) / 2}

    def side(self, logits: Float[Tensor, "b b"]) -> Tensor:
        """Mean cross-entropy of the rows, with their pairs on the diagonal."""
        if self.logit_clip is not None:
            logits = clipped(logits, self.logit_clip)
        targets = torch.arange(len(logits), device=logits.device)
        if not self.truncate:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        kept = smallest(error_norms(logits), self.truncate)
        return F.cross_entropy(logits[kept], targets[kept], label_smoothing=self.label_smoothing)

    def tiled(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None,
        exchange: Exchange,
        tile: int,
    ) -> dict[str, Tensor]:
        """The same loss, tile by tile; see `losses/_tiles.py`."""
        loss = InfoNCE(exchange, tile, self.label_smoothing, self.logit_clip, self.truncate)
        return {"contrastive": loss(image, text, logit_scale, logit_bias)}
