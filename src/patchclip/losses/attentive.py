"""A-CLIP's loss: InfoNCE with the text, and agreement between two masked views of an image."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError


class AttentiveLoss(nn.Module):
    """InfoNCE of each view with the text; two views agree with each other and with an averaged encoder.

    L = mean_v InfoNCE(v, text) + simclr * NTXent(g(v1), g(v2)) + byol * mean_v (2 - 2 cos(h(v), teacher))

    Source: Yang et al., "Attentive Mask CLIP" (A-CLIP), ICCV 2023, arXiv 2212.08653, section 3.3 (weights 1
    and 2); NTXent: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations"
    (SimCLR), ICML 2020, arXiv 2002.05709, equation (1); BYOL: Grill et al., "Bootstrap Your Own Latent",
    NeurIPS 2020, arXiv 2006.07733, equation (2).
    Differs: the heads g and h read the embedding, not the class token before its projection; so the teacher's
    projection is its tower's own and h alone stands before the cosine. Batch norms keep no running
    statistics. The released code compares the first view with itself in NTXent; here it is views 1 and 2.

    Args:
        temperature: of NTXent, > 0.
        simclr: weight of NTXent, >= 0.
        byol: weight of the agreement with the teacher, >= 0; no such term without a teacher.
        hidden: width of the heads' hidden layers, >= 1 (released: 4096).
        projection: width of what NTXent compares, >= 1.

    Raises:
        ConfigError: an argument outside its range.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        simclr: float = 1.0,
        byol: float = 2.0,
        hidden: int = 4096,
        projection: int = 256,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"temperature={temperature} must be above 0: A-CLIP takes 0.1")
        if simclr < 0 or byol < 0:
            raise ConfigError(f"simclr={simclr} and byol={byol} must be at least 0: A-CLIP takes 1 and 2")
        if hidden < 1 or projection < 1:
            raise ConfigError(f"hidden={hidden} and projection={projection} must be at least 1")
        self.temperature, self.simclr, self.byol = temperature, simclr, byol
        self.hidden, self.width = hidden, projection
        self.project: nn.Module | None = None
        self.predict: nn.Module | None = None

    def build_heads(self, width: int) -> None:
        """Makes the heads for embeddings of `width` numbers, with weights from torch's generator."""
        self.project = nn.Sequential(
            *layer(width, self.hidden), *layer(self.hidden, self.hidden), nn.Linear(self.hidden, self.width)
        )
        self.predict = nn.Sequential(*layer(width, self.hidden), nn.Linear(self.hidden, width))

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """CLIP's InfoNCE of one view as {"contrastive": 0-d tensor}.

        Args:
            image: unit-length image embeddings.
            text: unit-length text embeddings; row i describes image i.
            logit_scale: inverse temperature (already exponentiated), 0-d.
            logit_bias: added to every logit if the model has one (the loss does not depend on it).
        """
        logits = logit_scale * image @ text.T
        if logit_bias is not None:
            logits = logits + logit_bias
        targets = torch.arange(len(logits), device=logits.device)
        return {"contrastive": (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2}

    def between(
        self, views: Float[Tensor, "v b e"], teacher: Float[Tensor, "b e"] | None
    ) -> dict[str, Tensor]:
        """Terms between the views: {"simclr": ..., "byol": ...}, weighted.

        Args:
            views: unit-length embeddings of two views.
            teacher: unit-length embeddings of the whole images by the averaged encoder, if there is one.

        Raises:
            ConfigError: not two views, or no heads.
        """
        if len(views) != 2:
            raise ConfigError(f"the attentive loss compares two views, got {len(views)}: set train.views=2")
        if self.project is None or self.predict is None:
            raise ConfigError("the attentive loss has no heads: call build_heads(width) before")
        first, second = (self.project(view) for view in views)
        terms = {"simclr": self.simclr * nt_xent(first, second, self.temperature)}
        if teacher is not None:
            target = F.normalize(teacher.detach(), dim=-1)
            each = [
                (2 - 2 * (F.normalize(self.predict(view), dim=-1) * target).sum(dim=-1)) for view in views
            ]
            terms["byol"] = self.byol * torch.stack(each).mean()
        return terms


def layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """Linear, batch norm over the whole batch, ReLU."""
    norm = nn.BatchNorm1d(outputs, track_running_stats=False)
    return nn.Linear(inputs, outputs, bias=False), norm, nn.ReLU()


def nt_xent(
    first: Float[Tensor, "b p"], second: Float[Tensor, "b p"], temperature: float
) -> Float[Tensor, ""]:
    """Each row finds its other view among all 2 b - 1 other rows; mean of the cross-entropies."""
    rows = F.normalize(torch.cat([first, second]), dim=-1)
    logits = rows @ rows.T / temperature
    logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), -math.inf)
    partners = torch.arange(len(rows), device=rows.device).roll(len(first))
    return F.cross_entropy(logits, partners)
