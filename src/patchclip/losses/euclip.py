"""Contrastive losses of distances in place of cosines."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.errors import ConfigError
from patchclip.losses._geometry import METRICS, euclidean_excess, hyperbolic_excess
from patchclip.losses._rows import both_ways, widened

SPHERE = ("cosine", "elliptic")
LOG_CURVATURES = (math.log(0.1), math.log(10.0))


class EuCLIPLoss(nn.Module):
    """InfoNCE of a metric of the embeddings: distances of unnormalised embeddings, or angles of normalised.

    L = (CE(s M, diagonal) + CE(s M^t, diagonal)) / 2 + w mean_i max(0, ext(y_i, x_i) - aper(y_i)),
    M_ij = metric(x_i, y_j), of images x = X / sqrt(e) and texts y = Y / sqrt(e)

    Source: Chou and Alam, "Embedding Geometries of Contrastive Language-Image Pre-Training", Beyond Euclidean
    Workshop at ECCV 2024, arXiv 2409.13079; hyperbolic: Desai et al., "Hyperbolic Image-Text Representations"
    (MERU), ICML 2023, arXiv 2304.09172; cones: Ganea et al., "Hyperbolic Entailment Cones for Learning
    Hierarchical Embeddings", ICML 2018, arXiv 1804.01882.
    Differs: from the released code (EIFY/open_clip, branch euclip): gradients are finite where an image and a
    text coincide or a text is 0, which give NaN there; as in MERU's code sqrt(c) |x| is held at asinh(2^15)
    and the parameter of the curvature within its bounds (a curvature outside has no gradient there); MERU's
    code also holds exp(alpha), a tower's factor with 1 / sqrt(e), at 1 or below: here and in the branch it
    is free; the final layer norms of the towers, which its configurations leave out, are those of the model;
    a weight of entailment that the metric has no use for is refused, there it counts as 0.

    Args:
        metric: "euclidean_squared" (EuCLIP: -|x - y|^2), "euclidean", "inner" (x . y), "hyperbolic" (MERU:
            -distance on the hyperboloid of learnt curvature), "hyperbolic_inner", "hyperbolic_squared"; on
            unit vectors, without 1 / sqrt(e): "cosine" (CLIP), "elliptic" (-acos).
        entailment_weight: w >= 0 of the cones, in which each text holds its image; not for unit vectors.
        min_radius: K >= 1e-6: texts this near to the origin (hyperbolic: about 2 K) hold everything.

    Raises:
        ConfigError: an unknown metric, or an option outside its range.
    """

    def __init__(
        self, metric: str = "euclidean_squared", entailment_weight: float = 0.0, min_radius: float = 0.1
    ) -> None:
        super().__init__()
        if metric not in METRICS:
            raise ConfigError(f"metric={metric!r} must be one of {', '.join(METRICS)}")
        if not 0 <= entailment_weight < math.inf:
            raise ConfigError(f"entailment_weight={entailment_weight} must be at least 0: 0 leaves it out")
        if entailment_weight and metric in SPHERE:
            raise ConfigError(
                f"entailment_weight={entailment_weight}, but metric={metric} has no cones on the sphere: set "
                "it to 0, or take a euclidean or hyperbolic metric"
            )
        if not 1e-6 <= min_radius < math.inf:
            raise ConfigError(f"min_radius={min_radius} must be at least 1e-6: cones have no width at 0")
        self.metric, self.entailment_weight, self.min_radius = metric, entailment_weight, min_radius
        self.unit_length = metric in SPHERE
        self.hyperbolic = metric.startswith("hyperbolic")
        if self.hyperbolic:  # logarithms: of factors beside 1 / sqrt(e), and of the curvature
            self.log_image = nn.Parameter(torch.zeros(()))
            self.log_text = nn.Parameter(torch.zeros(()))
            self.log_curvature = nn.Parameter(torch.zeros(()))

    @property
    def initial_logits(self) -> tuple[float, None] | None:
        """Scale and no bias that squared distances start with; None leaves the model's own."""
        if not self.metric.endswith("_squared"):
            return None
        return (math.exp(-1.0), None) if self.entailment_weight else (1.0, None)

    def chance(self, batch: int) -> float | None:
        """The loss of guessing among `batch` pairs, ln(batch); unknown with cones, whose term is added."""
        return None if self.entailment_weight else math.log(batch)

    def similarity(self, width: int) -> dict[str, Any]:
        """What a model trained with this loss is scored by, as `models.similarity.Lifted` takes it.

        Args:
            width: e of the embeddings.

        Returns:
            Plain values; empty for cosines.
        """
        if self.metric == "cosine":
            return {}
        if not self.hyperbolic:
            scale = 1.0 if self.unit_length else width**-0.5
            return {"metric": self.metric, "image_scale": scale, "text_scale": scale}
        bounded = self.log_curvature.clamp(*LOG_CURVATURES)
        learnt = torch.stack([self.log_image, self.log_text, bounded]).detach().double().exp()
        image, text, curvature = learnt.tolist()
        return {
            "metric": self.metric,
            "image_scale": image * width**-0.5,
            "text_scale": text * width**-0.5,
            "curvature": curvature,
        }

    def forward(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]:
        """The loss as {"contrastive": 0-d} and, with a weight, {"entailment": 0-d}.

        Args:
            image: embeddings as the tower gives them; of unit length for "cosine" and "elliptic".
            text: likewise; row i describes image i.
            logit_scale: s (already exponentiated), 0-d.
            logit_bias: added to every score if the model has one; the loss does not depend on it.
        """
        x, y, curvature = self.points(image, text)
        logits = widened(logit_scale) * METRICS[self.metric](x, y, curvature)
        if logit_bias is not None:
            logits = logits + logit_bias
        terms = {"contrastive": both_ways(logits).to(widened(image).dtype)}
        if self.entailment_weight:
            excess = hyperbolic_excess if self.hyperbolic else euclidean_excess
            outside = excess(y, x, curvature, self.min_radius).mean()
            terms["entailment"] = self.entailment_weight * outside.to(widened(image).dtype)
        return terms

    def points(
        self, image: Float[Tensor, "b e"], text: Float[Tensor, "b e"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e"], Tensor]:
        """Scaled images and texts, and the curvature (1 if flat); float64 for the hyperboloid, but on MPS."""
        x, y = widened(image), widened(text)
        factor = 1.0 if self.unit_length else image.shape[1] ** -0.5
        if not self.hyperbolic:
            return x * factor, y * factor, x.new_ones(())
        wide = x.dtype if x.device.type == "mps" else torch.float64
        self.log_curvature.data.clamp_(*LOG_CURVATURES)  # itself, for outside it would have no gradient
        curvature = self.log_curvature.to(wide).exp()
        x, y = x.to(wide) * self.log_image.to(wide).exp(), y.to(wide) * self.log_text.to(wide).exp()
        return x * factor, y * factor, curvature
