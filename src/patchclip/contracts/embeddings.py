"""What is done with embeddings: the seams of `embeddings/`, `geometry/` and `adapt/`."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


@runtime_checkable
class MapFitter(Protocol):
    """A way to find a linear map on embeddings (see `embeddings/linear_map.py`)."""

    def fit(self, source: Float[Tensor, "n e"], target: Float[Tensor, "n f"] | None = None) -> Any:
        """The `LinearMap` of these embeddings, or from these to those; the options are the constructor's."""
        ...


@runtime_checkable
class ScoreFunction(Protocol):
    """A number for each image with its text: alike a metric (mean), a filter (order) and a reward (gradient).

    Higher is better. A score that must know a reference set learns it by `fit(image, text)`, which returns
    it.
    """

    def __call__(self, image: Float[Tensor, "b e"], text: Float[Tensor, "b e"]) -> Float[Tensor, " b"]:
        """Scores of rows of embeddings, as the towers give them; the gradient reaches both."""
        ...


@runtime_checkable
class Analysis(Protocol):
    """What is measured on the embeddings of a set of pairs."""

    def __call__(self, image: Float[Tensor, "n e"], text: Float[Tensor, "n e"]) -> dict[str, float]:
        """Figures by name, of embeddings as the towers give them (not of unit length); row i is pair i."""
        ...


@runtime_checkable
class Adapter(Protocol):
    """A classifier on frozen embeddings, in the manner of scikit-learn: `fit` returns it."""

    def fit(
        self,
        features: Float[Tensor, "n e"],
        labels: Int64[Tensor, " n"],
        texts: Float[Tensor, "c e"],
        scale: float = 100.0,
        validation: tuple[Tensor, Tensor] | None = None,
    ) -> "Adapter":
        """Learns from labelled images.

        Args:
            features: unit-length embeddings of the images.
            labels: class of each, in [0, c).
            texts: unit-length embedding of each class.
            scale: what cosines are multiplied by in zero-shot classification.
            validation: features and labels to choose settings on; None for none.
        """
        ...

    def decision_function(self, features: Float[Tensor, "b e"]) -> Float[Tensor, "b c"]:
        """Scores of the classes; the highest is the answer."""
        ...

    def predict(self, features: Float[Tensor, "b e"]) -> Int64[Tensor, " b"]:
        """The class of each."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class Shots(Protocol):
    """Labelled images, read when they are asked for."""

    @property
    def labels(self) -> Int64[Tensor, " n"]: ...

    def pixels(self, rows: Sequence[int]) -> Float[Tensor, "b 3 h w"]:
        """Preprocessed images."""
        ...


@runtime_checkable
class TowerAdapter(Protocol):
    """Adapts the weights of the towers; what it leaves behind is a plain model of the same architecture."""

    def fit(
        self, model: nn.Module, shots: Shots, tokens: Int64[Tensor, "c s"], generator: torch.Generator
    ) -> "TowerAdapter":
        """Trains `model` in place.

        Args:
            model: a CLIP with `encode_image`, `encode_text` and `logit_scale`.
            shots: images and labels.
            tokens: a prompt of each class.
            generator: of the order of the images, and of all that is drawn; on the CPU.
        """
        ...


@runtime_checkable
class CaptionAdapter(Protocol):
    """A linear map of the text embeddings, learnt from captioned images and false captions of them."""

    def fit(
        self,
        image: Float[Tensor, "n e"],
        text: Float[Tensor, "n e"],
        negative: Float[Tensor, "n e"],
        generator: torch.Generator,
    ) -> Any:
        """The `LinearMap` for text embeddings.

        All embeddings are of unit length; row i of `negative` is false of image i.
        """
        ...
