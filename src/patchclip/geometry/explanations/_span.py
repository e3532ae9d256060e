"""Texts whose directions span the outputs of a head."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Texts found for a set of vectors, in the order in which they were found. Letter: m texts found.

    Args:
        chosen: numbers of the texts.
        directions: orthonormal, float64: what each text adds to those before it.
        energies: share of the vectors' variance along each direction, in [0, 1].
        mean: of the vectors, float64.
    """

    chosen: tuple[int, ...]
    directions: Float[Tensor, "m e"]
    energies: Float[Tensor, " m"]
    mean: Float[Tensor, " e"]

    def reconstruct(self, vectors: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """The vectors as their mean and what lies along the directions, float64 on the CPU."""
        centred = vectors.to(self.mean) - self.mean
        return self.mean + centred @ self.directions.T @ self.directions
