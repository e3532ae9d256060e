"""InfoNCE with captions, and images, that are false of their partners by a detail."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import DataError
from patchclip.losses._rows import cross_entropy, table

Negatives = Float[Tensor, "..."]
"""[b,e] or [b,m,e]: one negative of a pair, or m of them; a row of zeros where there is none."""


class TripletLoss(nn.Module):
    """InfoNCE in which false captions are further choices of every image, as in TripletCLIP.

    neg(X, T, T') = (CE([s X T^t | s X T'^t], diagonal) + CE(s T X^t, diagonal)) / 2
    L = neg(X, T, T'), and with images X' of the false captions T': L = neg(X, T, T') + neg(X', T', T)

    Source: Patel et al., "TripletCLIP: Improving Compositional Reasoning of CLIP via Synthetic
    Vision-Language Negatives", NeurIPS 2024, arXiv 2411.02545, as their code computes it (`negclip_loss`,
    `tripletclip_loss`). `symmetric`: after Wang, Yang, Qiao, Ma, "CLIP-IN", 2025, arXiv 2508.02329.
    Differs: several negatives a pair, and pairs without one, are ours: the second term sums over the
    negatives that have both X' and T', and is divided by the number of all. The abstract tells of using both
    "in an alternating fashion", the released code adds the terms in each step, as here. CLIP-IN has released
    no code: that captions choose among the images X' too is our reading of its symmetric loss.

    Without negatives equal to `ClipLoss`.

    Args:
        shared: an image meets the negatives of all pairs, as in the released code; False: its own only. A
            short caption that is false of one image may well be true of another.
        symmetric: X' are further choices of every caption T, and X of T'; only where images X' are given.
    """

    wants = ("negative_text",)

    def __init__(self, shared: bool = True, symmetric: bool = False) -> None:
        super().__init__()
        self.shared, self.symmetric = shared, symmetric

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        negative_text: Negatives | None = None,
        negative_image: Negatives | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The loss as {"contrastive": neg(X, T, T')}, with images X' also {"negative": neg(X', T', T)}.

        Args:
            image: unit-length image embeddings.
            text: unit-length text embeddings; row i describes image i.
            logit_scale: inverse temperature s (already exponentiated), 0-d.
            logit_bias: added to every logit if the model has one; the loss does not depend on it.
            negative_text: unit-length embeddings of captions that are false of image i, or zeros.
            negative_image: the same of images which these captions are true of, or zeros.

        Raises:
            DataError: negatives of other numbers of pairs, or not as many images as texts.
        """
        false_text = _stacked(negative_text, "negative_text", image)
        false_image = _stacked(negative_image, "negative_image", image)
        images = false_image if self.symmetric else None
        logits = table(image, text, logit_scale, logit_bias)
        by_image = self.extended(logits, image, false_text, logit_scale, logit_bias)
        by_text = self.extended(logits.T, text, images, logit_scale, logit_bias)
        terms = {"contrastive": (cross_entropy(by_image) + cross_entropy(by_text)) / 2}
        if false_image is None:
            return terms
        if false_text is None or false_text.shape != false_image.shape:
            received = None if false_text is None else list(false_text.shape)
            raise DataError(
                f"negative_image {list(false_image.shape)} needs a negative_text of that shape, each image "
                f"belongs to a false caption; got {received}"
            )
        return terms | {"negative": self.turned(image, text, false_image, false_text, logit_scale)}

    def turned(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        false_image: Float[Tensor, "b m e"],
        false_text: Float[Tensor, "b m e"],
        scale: Tensor,
    ) -> Tensor:
        """neg(X', T', T): the false captions are true of their images, and the true ones false of these."""
        m = false_text.shape[1]
        own_image, own_text = false_image.flatten(0, 1), false_text.flatten(0, 1)  # n e, n = b m
        there = own_image.any(dim=1) & own_text.any(dim=1)  # n
        times = 1 if self.shared else m
        others = [rows[:, None].repeat_interleave(times, dim=0) for rows in (image, text)]
        own = torch.eye(len(there), dtype=torch.bool, device=there.device)
        logits = table(own_image, own_text, scale).masked_fill(~there & ~own, -torch.inf)  # n n
        by_image = self.extended(logits, own_image, others[1], scale, None)
        columns = logits.T.masked_fill(~there & ~own, -torch.inf)
        by_text = self.extended(columns, own_text, others[0] if self.symmetric else None, scale, None)
        weights = there.to(logits.dtype)
        both = cross_entropy(by_image, weights=weights) + cross_entropy(by_text, weights=weights)
        return weights.mean() * both / 2

    def extended(
        self,
        logits: Float[Tensor, "n c"],
        rows: Float[Tensor, "n e"],
        negatives: Float[Tensor, "k m e"] | None,
        scale: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """The logits with further columns: those of all negatives, or each row's own; -inf where none is."""
        if negatives is None:
            return logits
        there = negatives.any(dim=2)  # k m
        if self.shared:
            further = table(rows, negatives.flatten(0, 1), scale, bias)  # n (k m)
            absent = ~there.flatten()
        else:
            scaled = scale * rows.to(logits.dtype)
            further = torch.einsum("ne,nme->nm", scaled, negatives.to(logits.dtype))
            further, absent = further if bias is None else further + bias, ~there
        return torch.cat([logits, further.masked_fill(absent, -torch.inf)], dim=1)


def _stacked(rows: Tensor | None, name: str, image: Tensor) -> Tensor | None:
    """Negatives as [b,m,e]."""
    if rows is None:
        return None
    if rows.ndim not in (2, 3) or (len(rows), rows.shape[-1]) != tuple(image.shape) or 0 in rows.shape:
        b, e = image.shape
        raise DataError(f"{name} must be [{b},{e}] or [{b},m,{e}] with m above 0, got {list(rows.shape)}")
    return rows[:, None] if rows.ndim == 2 else rows
