"""What is measured for a geometry report: raw embeddings of pairs, and every analysis of them."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip import registry
from patchclip.contracts import BadSample
from patchclip.embeddings.feature_stats import FeatureStats, varying
from patchclip.errors import DataError, PatchclipError
from patchclip.evaluation.embedder import Embedder
from patchclip.geometry.analyses.double_ellipsoid import conformity, norms, spectrum
from patchclip.geometry.analyses.modality_gap import plane
from patchclip.geometry.analyses.whitened import extremes, log_likelihoods
from patchclip.report.geometry.source import Captioned

PER_DIRECTION = 4
"""Rows for each whitened direction: with fewer, the rows of the reference are all equally likely."""


@dataclass(frozen=True)
class Side:
    """What there is about the rows of one modality. Letters: r covariance directions.

    Args:
        rows: embeddings as the tower gives them.
        norms: their lengths.
        conformity: mean cosine of each with the others of its modality.
        spectrum: eigenvalues of their covariance, descending.
        likelihoods: log-density of each after whitening.
        plane: places on the two main axes of both modalities at unit length.
    """

    rows: Float[Tensor, "n e"]
    norms: Float[Tensor, "n"]
    conformity: Float[Tensor, "n"]
    spectrum: Float[Tensor, "r"]
    likelihoods: Float[Tensor, "n"]
    plane: Float[Tensor, "n 2"]

    def most_and_least(self, count: int) -> tuple[list[int], list[int]]:
        """Rows of the highest likelihoods, highest first, and of the lowest, lowest first."""
        low, high = extremes(self.likelihoods, count)
        return high.tolist(), low.tolist()


@dataclass(frozen=True)
class Measured:
    """Embeddings of pairs and what was measured on them.

    Args:
        image, text: the two sides, row i of both is pair i.
        rows: number of the image in its set, for each row.
        captions: of each row.
        bad: images that could not be read.
        figures: of each analysis, by its name.
        failed: analyses that could not be made, and why.
        rank: directions that likelihoods were measured in.
    """

    image: Side
    text: Side
    rows: tuple[int, ...]
    captions: tuple[str, ...]
    bad: tuple[BadSample, ...]
    figures: dict[str, dict[str, float]]
    failed: dict[str, str]
    rank: int

    def __len__(self) -> int:
        return len(self.rows)


def measure(embedder: Embedder, data: Captioned) -> Measured:
    """Embeds the pairs and runs every analysis.

    Args:
        embedder: of the encoder's raw embeddings.
        data: images and captions.

    Raises:
        DataError: fewer than 4 readable images, or embeddings that are not finite.
    """
    encoded = embedder.images(data.images, data.name, only=data.rows)
    place = {row: i for i, row in enumerate(data.rows)}
    rows = tuple(encoded.indices.tolist())
    captions = tuple(data.captions[place[row]] for row in rows)
    image, text = encoded.embeddings.float().clone(), embedder.texts(captions).float().clone()
    for words, found in (("image", image), ("text", text)):
        if not bool(found.isfinite().all()):
            raise DataError(f"{data.name}: {words} embeddings are not finite: the model's weights are broken")
    figures, failed = _analysed(image, text, embedder.scale)
    rank = max(1, min(len(rows) // PER_DIRECTION, *(_varying(each, data.name) for each in (image, text))))
    figures["scores"] = {name: scored(name, image, text) for name in registry.names("scores")}
    first, second = plane(image, text)
    sides = (_side(image, rank, first), _side(text, rank, second))
    return Measured(*sides, rows, captions, encoded.bad, figures, failed, rank)


def scored(name: str, image: Tensor, text: Tensor) -> float:
    """Mean of a score over the pairs; one that must know a reference set is fitted on them."""
    score = registry.build("scores", name)
    if hasattr(score, "fit"):
        score.fit(image, text)
    return float(score(image, text).mean())


def _varying(rows: Tensor, name: str) -> int:
    """Directions in which embeddings vary. Raises DataError for one image, or caption, over and over."""
    found = varying(FeatureStats.of(rows))
    if not found:
        raise DataError(f"{name}: all images, or all captions, are embedded alike: give pairs that differ")
    return found


def _side(rows: Tensor, rank: int, places: Tensor) -> Side:
    likelihoods = log_likelihoods(rows, rank=rank)
    return Side(rows, norms(rows), conformity(rows), spectrum(rows), likelihoods, places)


def _analysed(
    image: Tensor, text: Tensor, scale: float
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    figures: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    for name in registry.names("geometry"):
        given: dict[str, Any] = {"scale": scale} if registry.accepts("geometry", name, "scale") else {}
        try:
            figures[name] = registry.build("geometry", name, **given)(image, text)
        except PatchclipError as error:
            failed[name] = str(error)
    return figures, failed


def unit(rows: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
    """Rows of unit length."""
    return F.normalize(rows.float(), dim=-1)


def quantiles(values: Float[Tensor, "n"]) -> dict[str, float]:
    """Minimum, quartiles and maximum by name."""
    shares = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
    found = torch.quantile(values.double(), torch.tensor(list(shares.values()), dtype=torch.float64))
    return dict(zip(shares, found.tolist(), strict=True))
