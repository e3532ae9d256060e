"""Concept probes: the direction between prompts with a concept and without it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.embeddings.feature_stats import FeatureStats, principal
from patchclip.embeddings.linear_map import LinearMap
from patchclip.errors import ConfigError, DataError

KINDS = ("mean", "principal")


@dataclass(frozen=True)
class Concept:
    """Takes the direction of a concept out of embeddings.

    y = x - c c^T x,  c = `direction(source, target, kind)`

    Source: mean difference: Bolukbasi et al., "Man is to Computer Programmer as Woman is to Homemaker?
    Debiasing Word Embeddings", NeurIPS 2016, arXiv 1607.06520; prompts of CLIP: Chuang et al., "Debiasing
    Vision-Language Models via Biased Prompts", 2023, arXiv 2302.00070, equation 1 (one direction here).
    Differs: embeddings are not brought back to unit length; no calibration matrix.

    Args:
        kind: "mean" for the difference of the means, "principal" for the direction in which the differences
            of the rows are longest.

    Raises:
        ConfigError: another kind.
    """

    kind: str = "mean"

    def __post_init__(self) -> None:
        _check(self.kind)

    def fit(self, source: Float[Tensor, "n e"], target: Float[Tensor, "m f"] | None = None) -> LinearMap:
        """The map, of rank e - 1.

        Args:
            source: embeddings of prompts with the concept.
            target: of prompts without it.

        Raises:
            DataError: no target, another width, rows that are not finite, or no difference between the two.
        """
        if target is None:
            raise DataError("a concept needs a target: the embeddings of prompts without it")
        found = direction(source, target, self.kind).double()
        weight = torch.eye(len(found), dtype=torch.float64, device=found.device)
        return LinearMap(weight - torch.outer(found, found)).to(source)


def direction(
    source: Float[Tensor, "n e"], target: Float[Tensor, "m f"], kind: str = "mean"
) -> Float[Tensor, "e"]:
    """The unit direction from prompts without a concept to those with it.

    Args:
        source: embeddings of prompts with the concept.
        target: of prompts without it; row by row where `kind` is "principal".
        kind: see `Concept`.

    Raises:
        ConfigError: another kind.
        DataError: other widths, rows that are not paired, not finite, or without a difference.
    """
    _check(kind)
    if source.shape[1:] != target.shape[1:] or (kind == "principal" and len(source) != len(target)):
        raise DataError(
            f"embeddings {list(source.shape)} and {list(target.shape)} must be of one width, and row by row "
            f"for kind='principal'"
        )
    apart = FeatureStats.of(source).mean - FeatureStats.of(target).mean
    if kind == "principal":
        differences = FeatureStats.of(source.double() - target.double())
        values, vectors = principal(differences.gram)
        towards = torch.where(vectors[:, 0] @ apart < 0, -1.0, 1.0)
        apart = vectors[:, 0] * values[0].clamp_min(0).sqrt() * towards
    length = apart.norm()
    if length <= 1e-6 * source.double().norm(dim=1).mean():
        raise DataError("the prompts with and without the concept have the same mean: no direction to find")
    return (apart / length).to(source.device, torch.promote_types(source.dtype, torch.float32))


def probe(rows: Float[Tensor, "n e"], direction: Float[Tensor, "e"]) -> Float[Tensor, "n"]:
    """How much of a concept embeddings hold: cosine with its direction, in [-1, 1]; 0 for zero rows."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return torch.nn.functional.normalize(wide, dim=-1) @ direction.to(wide)


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise ConfigError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
