"""AlignCLIP's loss: embeddings of one modality are pushed apart as far as their captions differ."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses._rows import both_ways, cross_entropy, table, widened


class AlignCLIPLoss(nn.Module):
    """InfoNCE, and images that find their text among the other images of the batch.

    L = alpha (CE(s X T^t) + CE(s T X^t)) + beta CE(s V),
    V_ij = (x_i . x_j) (1 - r_i . r_j) for i != j,  V_ii = x_i . t_i

    with r_i, the caption of image i by a text encoder that is not trained: the same caption twice (1 - 1 = 0)
    pushes nothing apart. With `separate_text` a second beta CE(s V) has texts in the place of images.

    Source: Eslami and de Melo, "Mitigate the Gap: Improving Cross-Modal Alignment in CLIP", ICLR 2025,
    arXiv 2406.17639 (alpha 1, beta 0.5); form and options as in its released code (align_clip/loss.py).
    Differs: r is of a CLIP text tower, not of a sentence encoder (all-mpnet-base-v2); without a reference, of
    the text tower that is trained, as it stands. The shared tower of the paper is no part of a loss.

    As in the released code the first term is a sum: with beta=0 the loss is twice CLIP's.

    Args:
        alpha: weight of InfoNCE, >= 0.
        beta: weight of the separation, >= 0.
        separate_text: separate texts, too, as the released command does.
        reference: CLIP (run folder, or name as `patchclip eval` takes it) whose text tower compares captions.

    Raises:
        ConfigError: a weight below 0, or both 0.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 0.5,
        separate_text: bool = False,
        reference: str | None = None,
    ) -> None:
        super().__init__()
        if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
            raise ConfigError(
                f"alpha={alpha} and beta={beta} must be at least 0, and one above: AlignCLIP takes 1 and 0.5"
            )
        self.alpha, self.beta, self.separate_text, self.reference = alpha, beta, separate_text, reference
        self.wants: tuple[str, ...] = () if reference is None or not beta else ("reference_text",)

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The terms "contrastive" and, unless its weight is 0, "separation", weighted; 0-d.

        Args:
            image: unit-length image embeddings.
            text: unit-length text embeddings; row i describes image i.
            logit_scale: inverse temperature s (already exponentiated), 0-d.
            logit_bias: added to every logit if the model has one (the loss does not depend on it).
            extras: `reference_text` [b, f], embeddings of the captions by the text tower of `reference`.

        Raises:
            ConfigError: a `reference`, but no `reference_text`.
        """
        pairs = table(image, text, logit_scale, logit_bias)
        terms = {"contrastive": 2 * self.alpha * both_ways(pairs)}
        if self.beta:
            captions = self.captions(text, extras.get("reference_text"))
            apart = separation(image, text, captions, logit_scale)
            if self.separate_text:
                apart = apart + separation(text, image, captions, logit_scale)
            terms["separation"] = self.beta * apart
        return terms

    def captions(self, text: Tensor, given: Tensor | None) -> Float[Tensor, "b f"]:
        """What captions are compared by, of unit length, without a gradient."""
        if self.reference is not None and given is None:
            raise ConfigError(
                f"reference={self.reference!r}, but no reference_text was given: pass the captions' "
                "embeddings by that text tower, or leave reference out to compare them by the model's own"
            )
        rows = text if self.reference is None or given is None else given
        return F.normalize(widened(rows.detach()), dim=-1)


def separation(
    rows: Float[Tensor, "b e"],
    partners: Float[Tensor, "b e"],
    captions: Float[Tensor, "b f"],
    scale: Tensor,
) -> Float[Tensor, ""]:
    """Mean cross-entropy of each row's partner against the other rows, each as far as its caption differs.

    Args:
        rows: unit-length embeddings of one modality.
        partners: those of the other, row by row.
        captions: unit-length embeddings of the captions.
        scale: inverse temperature, 0-d.
    """
    others = table(rows, rows, scale) * (1 - captions @ captions.T)
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return cross_entropy(torch.where(own, table(rows, partners, scale), others))
