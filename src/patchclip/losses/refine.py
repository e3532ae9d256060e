"""CLIP-Refine: a trained CLIP is held to what it knew while its images and texts are drawn together."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses._rows import cross_entropy, table, widened


class RefineLoss(nn.Module):
    """Distillation from the model as it was, mixed with the true pairs, and one random point for each pair.

    L = align R + distil (H(X, T) + H(T, X)) / 2,  R = mean_i (||X_i - z_i||^2 + ||T_i - z_i||^2) / e,
    H(X, T) = mean_i KL(alpha onehot(i) + (1 - alpha) softmax(s' x' t'^t)_i || softmax(s x t^t)_i),
    z_i ~ N(0, I), drawn in every step; x = unit(X), t = unit(T); s', x', t' of the frozen teacher

    R (random feature alignment) has a mean gradient of 2 X_i / (b e): in the mean it draws both modalities to
    the origin, and with them their means, which are the gap; z is noise that both get alike.

    Source: Yamaguchi et al., "Post-pre-training for Modality Alignment in Vision-Language Foundation Models"
    (CLIP-Refine), CVPR 2025, arXiv 2504.12717 (RaFA and HyCD, alpha 0.5, weights 1, no further InfoNCE).
    Differs: the paper's R is half of the squared distances; here, as in the released code
    (updater/contrastive.py), the mean over the numbers of an embedding, both sides summed. That code distils
    X T^t, neither of unit length nor with a scale: `normalise=False`.

    Args:
        alpha: share of the true pairs in what is distilled, in [0, 1].
        align: weight of R, >= 0.
        distil: weight of the distillation, >= 0.
        normalise: distil cosines with their scale, as CLIP compares; False is the released code, which does
            not train the scale.

    Raises:
        ConfigError: an argument outside its range.
    """

    wants = ("teacher_image", "teacher_text", "teacher_scale", "generator")
    unit_length = False

    def __init__(
        self, alpha: float = 0.5, align: float = 1.0, distil: float = 1.0, normalise: bool = True
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ConfigError(
                f"alpha={alpha} must be in [0, 1]: the share of the true pairs; CLIP-Refine: 0.5"
            )
        if not (align >= 0 and distil >= 0 and align + distil > 0):
            raise ConfigError(f"align={align} and distil={distil} must be at least 0, and one above")
        self.alpha, self.align, self.distil = alpha, align, distil
        self.normalise = normalise

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The terms "random_alignment" and "distillation", weighted; 0-d.

        Args:
            image: image embeddings, as the tower gives them.
            text: text embeddings likewise; row i describes image i.
            logit_scale: inverse temperature s (already exponentiated), 0-d.
            logit_bias: of no effect.
            extras: `teacher_image`, `teacher_text` [b, e], embeddings of the frozen teacher like those above;
                `teacher_scale`, its inverse temperature, 0-d; `generator`, on the embeddings' device, of z
                (torch's own without it).

        Raises:
            ConfigError: no teacher.
        """
        for name in self.wants[:3]:
            if extras.get(name) is None:
                raise ConfigError(
                    f"the refine loss has no {name}: pass the embeddings, and exp(logit_scale), of the model "
                    "as it was before training; patchclip train does so"
                )
        known = self.logits(*(extras[name] for name in self.wants[:3])).detach()
        logits = self.logits(image, text, logit_scale)
        held = (distilled(logits, known, self.alpha) + distilled(logits.T, known.T, self.alpha)) / 2
        return {
            "random_alignment": self.align * random_alignment(image, text, extras.get("generator")),
            "distillation": self.distil * held,
        }

    def logits(self, image: Tensor, text: Tensor, scale: Tensor) -> Float[Tensor, "b b"]:
        """What is distilled; without `normalise` the scale has a gradient of 0, which several ranks need."""
        if self.normalise:
            return table(F.normalize(widened(image), dim=1), F.normalize(widened(text), dim=1), scale)
        return table(image, text, 1 + 0 * scale)


def random_alignment(
    image: Float[Tensor, "b e"], text: Float[Tensor, "b e"], generator: torch.Generator | None
) -> Float[Tensor, ""]:
    """Mean squared differences of images from random points, plus those of texts from the same points."""
    x, t = widened(image), widened(text)
    points = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return (x - points).square().mean() + (t - points).square().mean()


def distilled(logits: Float[Tensor, "b b"], known: Float[Tensor, "b b"], alpha: float) -> Float[Tensor, ""]:
    """Mean KL divergence of the rows' softmax from that of `known`, mixed by `alpha` with the diagonal."""
    own = torch.eye(len(known), dtype=known.dtype, device=known.device)
    targets = alpha * own + (1 - alpha) * known.softmax(dim=1)
    return cross_entropy(logits, targets) - torch.special.entr(targets).sum(dim=1).mean()
