"""TextSpan: texts that say what the outputs of a head are about."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.errors import ConfigError, DataError
from patchclip.geometry.explanations._span import Span

NOTHING = 1e-5
"""Share of a text's length, of the vectors' spread or of their largest singular value that is rounding."""


@dataclass(frozen=True)
class TextSpan:
    """Picks texts one by one whose directions hold most of the spread of a head's outputs.

    t* = argmax_t std_i(<c_i - mean c, t>);  then c_i and all t lose what they have along t*

    c are the outputs of a head over images, t texts, projected at first on the right singular vectors of c
    with the `rank` largest singular values.

    Source: Gandelsman, Efros, Steinhardt, "Interpreting CLIP's Image Representation via Text-Based
        Decomposition", ICLR 2024, arXiv 2310.05916, section 4 (algorithm 1) and its released code
        (`rank`, the mean, and the order of steps).
    Differs: singular vectors of singular value 0 are left out: a head of width 64 has no more than 64 others,
        so that 16 of the 80 are arbitrary in the released code. The search ends where nothing remains of the
        texts or of the outputs; there it goes on with what rounding left. As there, texts are not brought to
        unit length unless `normalise` is set, so that a text of which more remains is favoured, and the mean
        is subtracted after the singular vectors were found, so that a large one takes one of the ranks.

    Args:
        rank: singular vectors that the texts are projected on, >= 1; all there are where they are fewer.
        count: texts to find, >= 1.
        normalise: compare by the direction of what remains of a text, not by its length, too.

    Raises:
        ConfigError: an argument outside its range.
    """

    rank: int = 80
    count: int = 10
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.count < 1:
            raise ConfigError(f"rank={self.rank} and count={self.count} must both be at least 1")

    @torch.no_grad()
    def __call__(self, outputs: Float[Tensor, "n e"], texts: Float[Tensor, "k e"]) -> Span:
        """The texts that span the outputs of a head.

        Args:
            outputs: of the head, a row for each image, 2 at least; see `Decomposition`.
            texts: embeddings, of unit length as a rule.

        Returns:
            At most `count` texts, fewer where the texts or the outputs span fewer directions. It is computed
            in float64 on the CPU.

        Raises:
            DataError: widths that differ, fewer than 2 outputs, no text, numbers that are not finite, or
                outputs that are all the same.
        """
        vectors, names = (each.detach().to("cpu", torch.float64) for each in (outputs, texts))
        _check(vectors, names)
        _, sizes, basis = torch.linalg.svd(vectors, full_matrices=False)
        basis = basis[: self.rank][sizes[: self.rank] > NOTHING * sizes[0]]
        mean = vectors.mean(dim=0)
        left, words = vectors - mean, names @ basis.T @ basis
        lengths, spread = words.norm(dim=1), left.square().sum()
        if spread <= NOTHING**2 * vectors.square().sum():
            raise DataError(f"the {len(vectors)} outputs are all the same: there is no spread to explain")
        chosen: list[int] = []
        found: list[Tensor] = []
        energies: list[Tensor] = []
        while len(chosen) < self.count:
            remains = words.norm(dim=1)
            alive = remains > NOTHING * lengths.clamp_min(NOTHING)
            scores = (left @ words.T).std(dim=0)
            scores = torch.where(alive, scores / remains if self.normalise else scores, -1.0)
            best = int(scores.argmax())
            if not alive[best] or left.square().sum() <= NOTHING**2 * spread:
                break
            direction = words[best] / remains[best]
            along = left @ direction
            chosen.append(best)
            found.append(direction)
            energies.append(along.square().sum() / spread)
            left = left - along[:, None] * direction
            words = words - (words @ direction)[:, None] * direction
        if not found:
            return Span((), vectors.new_zeros(0, vectors.shape[1]), vectors.new_zeros(0), mean)
        return Span(tuple(chosen), torch.stack(found), torch.stack(energies), mean)


def _check(vectors: Tensor, texts: Tensor) -> None:
    if vectors.ndim != 2 or texts.ndim != 2 or vectors.shape[1] != texts.shape[1]:
        raise DataError(
            f"outputs {tuple(vectors.shape)} and texts {tuple(texts.shape)} must be [n, e] and [k, e]"
        )
    if len(vectors) < 2 or not len(texts):
        raise DataError(f"{len(vectors)} outputs and {len(texts)} texts: 2 outputs and 1 text are needed")
    if not bool(vectors.isfinite().all()) or not bool(texts.isfinite().all()):
        raise DataError("outputs and texts must be finite: leave out rows of images that could not be read")
