"""Geodesic multi-modal mixup: points between an image and its text as hard negatives."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses._rows import both_ways, cross_entropy, table, widened
from patchclip.losses._sphere import between


class M2MixLoss(nn.Module):
    """InfoNCE, and once more against negatives that lie between the image and the text of another pair.

    L = InfoNCE + weight (CE(z^I) + CE(z^T)),  z^I_ij = x_i . m_j / tau (j != i), z^I_ii = x_i . t_i / tau,
    m_j = (x_j sin(l theta_j) + t_j sin((1 - l) theta_j)) / sin(theta_j),  cos theta_j = x_j . t_j,
    l ~ Beta(alpha, alpha), one a batch; z^T likewise with t_i . m_j

    `unimodal` and `joint` add the mixes of m3-mix: with l ~ Beta(other_alpha, other_alpha) each image (or
    each text; `joint`: both) is mixed with that of its partner, the pair as far from the other end of the
    batch. A mixed image belongs to its own text by l and to its partner's by 1 - l; in `joint`, to both by a
    half.

    Source: Oh et al., "Geodesic Multi-Modal Mixup for Robust Fine-Tuning", NeurIPS 2023, arXiv 2203.03897;
    defaults from its released code (m2mix.sh; m3mix.sh: alpha 0.2, unimodal 0.05, joint 0.05 to 0.2).
    Differs: the released code multiplies the mixes by 1 / (epoch + 1), draws on the host, and divides by
    sin(theta), NaN where both ends coincide (the middle pair of an odd batch). Its targets of `joint` are 1
    for each of both pairs, which sum to 2: `joint` here is twice theirs.

    Args:
        weight: of the multi-modal mix, >= 0; released: 0.001 to 0.05.
        temperature: tau of the multi-modal mix, > 0; None is the model's own.
        alpha: of the Beta distribution of the multi-modal mix, > 0.
        unimodal: weight of the mix of images, and of that of texts, >= 0.
        joint: weight of the mix of images and texts alike, >= 0.
        other_alpha: of the Beta distribution of `unimodal` and `joint`, > 0.

    Raises:
        ConfigError: an argument outside its range.
    """

    wants = ("generator",)

    def __init__(
        self,
        weight: float = 0.01,
        temperature: float | None = 0.07,
        alpha: float = 0.5,
        unimodal: float = 0.0,
        joint: float = 0.0,
        other_alpha: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value in (("weight", weight), ("unimodal", unimodal), ("joint", joint)):
            if not value >= 0:
                raise ConfigError(f"{name}={value} must be at least 0: 0 leaves the mix out")
        for name, value in (("alpha", alpha), ("other_alpha", other_alpha)):
            if not 0 < value < float("inf"):
                raise ConfigError(f"{name}={value} must be above 0: Beta({name}, {name}); released: 0.5")
        if temperature is not None and not temperature > 0:
            raise ConfigError(f"temperature={temperature} must be above 0, or null for the model's own")
        self.weight, self.temperature, self.alpha = weight, temperature, alpha
        self.unimodal, self.joint, self.other_alpha = unimodal, joint, other_alpha

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The terms "contrastive" and, unless their weight is 0, "m2_mix", "unimodal_mix", "joint_mix"; 0-d.

        Args:
            image: unit-length image embeddings.
            text: unit-length text embeddings; row i describes image i.
            logit_scale: inverse temperature (already exponentiated), 0-d.
            logit_bias: added to every logit if the model has one (the loss does not depend on it).
            extras: `generator`, on the embeddings' device, of what is drawn; torch's own without it.
        """
        generator: torch.Generator | None = extras.get("generator")
        terms = {"contrastive": both_ways(table(image, text, logit_scale, logit_bias))}
        if self.weight:
            share = drawn(self.alpha, image, generator)
            terms["m2_mix"] = self.weight * against_mixed(image, text, self.scale(logit_scale), share)
        if self.unimodal:
            share, other = (drawn(self.other_alpha, image, generator) for _ in range(2))
            by_image = table(with_partner(image, share), text, logit_scale)
            by_text = table(image, with_partner(text, other), logit_scale)
            terms["unimodal_mix"] = self.unimodal * (to_both(by_image, share) + to_both(by_text, other))
        if self.joint:
            share = drawn(self.other_alpha, image, generator)
            logits = table(with_partner(image, share), with_partner(text, share), logit_scale)
            terms["joint_mix"] = self.joint * to_both(logits, torch.full_like(share, 0.5))
        return terms

    def scale(self, logit_scale: Tensor) -> Tensor:
        """Inverse temperature of the multi-modal mix, 0-d."""
        if self.temperature is None:
            return logit_scale
        return torch.full_like(widened(logit_scale), 1 / self.temperature)


def drawn(alpha: float, like: Tensor, generator: torch.Generator | None) -> Float[Tensor, ""]:
    """A number of Beta(alpha, alpha), drawn where `like` lies."""
    both = torch.full((2,), alpha, dtype=widened(like[:0]).dtype, device=like.device)
    return torch._sample_dirichlet(both, generator)[0]


def against_mixed(
    image: Float[Tensor, "b e"], text: Float[Tensor, "b e"], scale: Tensor, share: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Cross-entropies, of images and of texts, of each pair against points between those of the others."""
    points = between(image, text, share)
    own = torch.eye(len(image), dtype=torch.bool, device=image.device)
    pairs = table(image, text, scale)
    sides = [torch.where(own, pairs, table(rows, points, scale)) for rows in (image, text)]
    return cross_entropy(sides[0]) + cross_entropy(sides[1])


def with_partner(rows: Float[Tensor, "b e"], share: Float[Tensor, ""]) -> Float[Tensor, "b e"]:
    """The point of the arc that is `share` of the way to each row from the one as far from the other end."""
    return between(rows, rows.flip(0), share)


def to_both(logits: Float[Tensor, "b b"], share: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Mean cross-entropy of rows and columns that belong to their pair by `share`, else to its partner."""
    own = torch.eye(len(logits), dtype=logits.dtype, device=logits.device)
    targets = share * own + (1 - share) * own.flip(0)
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2
