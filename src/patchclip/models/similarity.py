"""How the embeddings of the towers become rows whose inner product is the score of an image and a text."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from patchclip.errors import CheckpointError, ConfigError

__all__ = ["Cosine", "Lifted", "Raw", "Similarity", "origin_distance", "read_similarity", "write_similarity"]

SIMILARITY = "similarity.json"
FARTHEST = math.asinh(2.0**15)
"""sqrt(curvature) |x| beyond which a point of the hyperboloid is held: squares stay finite in float32."""


class Similarity(Protocol):
    """Rows of images and of texts such that `image_rows @ text_rows.T` are the scores; higher is nearer."""

    def image(self, embedded: Float[Tensor, "b e"]) -> Float[Tensor, "b f"]:
        """Rows of image embeddings, float32 as the tower gives them."""
        ...

    def text(self, embedded: Float[Tensor, "n e"]) -> Float[Tensor, "n f"]:
        """Rows of text embeddings, float32 as the tower gives them."""
        ...

    def ensembled(self, means: Float[Tensor, "c f"]) -> Float[Tensor, "c f"]:
        """Rows of classes, from the mean of the rows of each one's prompts."""
        ...

    def scores(self, products: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """What the model was trained with, before its scale: rises with the inner products of rows."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that it depends on, as plain values; empty for the cosine."""
        ...


@dataclass(frozen=True)
class Cosine:
    """Rows of unit length, prompts averaged and normalised again: CLIP's own."""

    def image(self, embedded: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        """Unit-length rows."""
        return F.normalize(embedded, dim=-1)

    def text(self, embedded: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """Unit-length rows."""
        return F.normalize(embedded, dim=-1)

    def ensembled(self, means: Float[Tensor, "c e"]) -> Float[Tensor, "c e"]:
        """Unit-length rows."""
        return F.normalize(means, dim=-1)

    def scores(self, products: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The products: cosines."""
        return products

    def settings(self) -> dict[str, Any]:
        """None: embeddings kept under a model's key from before there were others stay valid."""
        return {}


@dataclass(frozen=True)
class Raw:
    """Rows as the towers give them: inner products, which no length is taken out of."""

    def image(self, embedded: Float[Tensor, "b e"]) -> Float[Tensor, "b e"]:
        """The rows themselves."""
        return embedded

    def text(self, embedded: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """The rows themselves."""
        return embedded

    def ensembled(self, means: Float[Tensor, "c e"]) -> Float[Tensor, "c e"]:
        """The means themselves."""
        return means

    def scores(self, products: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The products."""
        return products

    def settings(self) -> dict[str, Any]:
        """The name."""
        return {"metric": "raw"}


@dataclass(frozen=True)
class Lifted:
    """Rows of a few numbers more, whose inner product is the score of another geometry or rises with it.

    x = image_scale * image, y = text_scale * text, as the towers give them (elliptic: of unit length):

        euclidean_squared   -|x - y|^2 = [x, -|x|^2, -1] . [2y, 1, |y|^2]; euclidean is -sqrt of its negative
        inner               x . y
        elliptic            -acos(x . y), from x . y
        hyperbolic_inner    <x, y> = [s(x), t(x)] . [s(y), -t(y)], with s(x) = sinh(r|x|) / (r|x|) x,
                            t(x) = sqrt(1/c + |s(x)|^2), r = sqrt(c)
        hyperbolic          -d = -acosh(-c <x, y>) / r, from <x, y>; hyperbolic_squared: -d^2

    Source: Chou and Alam, "Embedding Geometries of Contrastive Language-Image Pre-Training", Beyond Euclidean
    Workshop at ECCV 2024, arXiv:2409.13079.
    Differs: from the released code, which computes distances: the score of several prompts is the mean of
    their scores (of what the others are computed from, for euclidean, elliptic, hyperbolic and its square),
    not the score of their mean embedding; sqrt(c) |x| is held at asinh(2^15) as in MERU's code.

    Args:
        metric: one of the names above.
        image_scale: factor of the image embeddings, > 0.
        text_scale: factor of the text embeddings, > 0.
        curvature: c > 0 of the hyperboloid; of no effect on the others.

    Raises:
        ConfigError: an unknown metric, or a number that is not positive and finite.
    """

    metric: str = "euclidean_squared"
    image_scale: float = 1.0
    text_scale: float = 1.0
    curvature: float = 1.0

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"metric={self.metric!r} must be one of {', '.join(METRICS)}")
        for name in ("image_scale", "text_scale", "curvature"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ConfigError(f"{name}={value!r} must be a finite number above 0")

    def image(self, embedded: Float[Tensor, "b e"]) -> Float[Tensor, "b f"]:
        """The rows of images; computed in float64, given in the dtype of the embeddings."""
        x = embedded.double() * self.image_scale
        rows = METRICS[self.metric].lift(x, self.curvature, 1)
        return rows.to(embedded.dtype)

    def text(self, embedded: Float[Tensor, "n e"]) -> Float[Tensor, "n f"]:
        """The rows of texts; computed in float64, given in the dtype of the embeddings."""
        y = embedded.double() * self.text_scale
        rows = METRICS[self.metric].lift(y, self.curvature, -1)
        return rows.to(embedded.dtype)

    def ensembled(self, means: Float[Tensor, "c f"]) -> Float[Tensor, "c f"]:
        """The means themselves: the mean of rows has the mean of their products."""
        return means

    def scores(self, products: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The metric's own values, in the dtype of the products."""
        return METRICS[self.metric].score(products.double(), self.curvature).to(products.dtype)

    def settings(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def squared_rows(x: Tensor, curvature: float, side: int) -> Tensor:
    """[x, -|x|^2, -1] on the side of the images (1), [2x, 1, |x|^2] on that of the texts (-1)."""
    square, one = x.square().sum(-1, keepdim=True), torch.ones_like(x[..., :1])
    return torch.cat([x, -square, -one] if side > 0 else [2 * x, one, square], dim=-1)


def plain_rows(x: Tensor, curvature: float, side: int) -> Tensor:
    """x itself."""
    return x


def unit_rows(x: Tensor, curvature: float, side: int) -> Tensor:
    """x / |x|."""
    return F.normalize(x, dim=-1)


def lorentz_rows(x: Tensor, curvature: float, side: int) -> Tensor:
    """Space and time of the points of the hyperboloid, time with the sign of the side."""
    length = x.norm(dim=-1, keepdim=True)
    turned = (math.sqrt(curvature) * length).clamp(max=FARTHEST)
    space = turned.sinh() / math.sqrt(curvature) * F.normalize(x, dim=-1)
    time = (1 / curvature + space.square().sum(-1, keepdim=True)).sqrt()
    return torch.cat([space, side * time], dim=-1)


@dataclass(frozen=True)
class Metric:
    """Rows (embeddings, curvature, side) and scores (products, curvature) of a geometry."""

    lift: Callable[[Tensor, float, int], Tensor]
    score: Callable[[Tensor, float], Tensor]


def same(products: Tensor, curvature: float) -> Tensor:
    """The products."""
    return products


def distance(products: Tensor, curvature: float) -> Tensor:
    """-d of the hyperboloid."""
    return -(-curvature * products).clamp(min=1.0).acosh() / math.sqrt(curvature)


METRICS = {
    "euclidean_squared": Metric(squared_rows, same),
    "euclidean": Metric(squared_rows, lambda products, curvature: -(-products).clamp(min=0.0).sqrt()),
    "inner": Metric(plain_rows, same),
    "elliptic": Metric(unit_rows, lambda products, curvature: -products.clamp(-1.0, 1.0).acos()),
    "hyperbolic": Metric(lorentz_rows, distance),
    "hyperbolic_inner": Metric(lorentz_rows, same),
    "hyperbolic_squared": Metric(lorentz_rows, lambda products, c: -distance(products, c).square()),
}


def origin_distance(
    embedded: Float[Tensor, "n e"], similarity: Similarity, of: str = "text"
) -> Float[Tensor, " n"]:
    """Hierarchy score: distance to the origin, small for what is general, large for what is special.

    |scale x| in every geometry here: the map onto the hyperboloid keeps distances to the origin.

    Source: Desai et al. (MERU), ICML 2023, arXiv:2304.09172; Chou and Alam, arXiv:2409.13079.

    Args:
        embedded: as the towers give them (`ClipEncoder.raw`).
        similarity: of the model (`ClipEncoder.similarity`).
        of: "image" or "text".

    Raises:
        ConfigError: another `of`, or a similarity of directions, which all are as far from the origin.
    """
    if of not in ("image", "text"):
        raise ConfigError(f"of={of!r} must be image or text: each has a scale of its own")
    settings = similarity.settings()
    if settings.get("metric", "cosine") in ("cosine", "elliptic"):
        raise ConfigError(
            f"{similarity} compares directions, which are all at distance 1 from the origin: take a model "
            "trained with loss.name=euclip, or Raw() for the lengths that its towers give"
        )
    return embedded.norm(dim=-1) * settings.get(f"{of}_scale", 1.0)


def write_similarity(folder: Path, similarity: Similarity) -> None:
    """Writes similarity.json into a model's folder; the cosine needs none."""
    if similarity.settings():
        content = json.dumps(similarity.settings(), indent=2) + "\n"
        (folder / SIMILARITY).write_text(content, encoding="utf-8")


def read_similarity(folder: Path) -> Similarity:
    """The similarity of a model's folder, the cosine where there is no similarity.json.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = folder / SIMILARITY
    if not path.is_file():
        return Cosine()
    try:
        return Lifted(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, ConfigError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(
            f"{path} cannot be read ({reason}): restore it, or remove it to score the model by cosines"
        ) from error
