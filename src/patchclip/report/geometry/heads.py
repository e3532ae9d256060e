"""What the layers and heads of an image tower add to its embeddings, and in which words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.data.nouns import nouns
from patchclip.errors import DataError
from patchclip.evaluation.embedder import Embedder
from patchclip.geometry.explanations.decomposition import Decomposition
from patchclip.geometry.explanations.textspan import TextSpan
from patchclip.report.geometry.measure import unit
from patchclip.report.geometry.source import Captioned

IMAGES, LAYERS, WORDS, SHOWN = 256, 4, 5, 5
"""Images that are taken apart, last layers whose heads are named, words and images of a head."""
CHUNK = 16
MOST_WORDS = 2000
FEWEST_WORDS = 40
"""Nouns below which whole captions are offered to the heads instead."""


@dataclass(frozen=True)
class Head:
    """One head: its place, its share of the embeddings' variance, its words with their shares of the head's
    own variance, and the rows of the images that its first word scores highest."""

    layer: int
    number: int
    share: float
    words: tuple[tuple[str, float], ...]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class TakenApart:
    """What the parts of a tower add.

    Args:
        error: largest difference of the sum of all parts from the embeddings, over their mean length.
        attention, mlps: share of each layer in the embeddings' variance; shares of all parts sum to 1.
        rest: share of the first tokens and the biases.
        heads: of the last layers, from the last layer on.
        images: that were taken apart.
        texts: that the heads' words were chosen of.
    """

    error: float
    attention: tuple[float, ...]
    mlps: tuple[float, ...]
    rest: float
    heads: tuple[Head, ...]
    images: int
    texts: int


@dataclass(frozen=True)
class _Sums:
    attention: Float[Tensor, "b k e"]
    mlps: Float[Tensor, "b k e"]
    rest: Float[Tensor, "b e"]
    heads: Float[Tensor, "b last m e"]


def vocabulary(captions: Sequence[str]) -> list[str]:
    """Texts that may describe a head: the captions' nouns, the most frequent first, or the captions."""
    counts = Counter(noun for caption in captions for noun in nouns(caption))
    found = [word for word, _ in counts.most_common(MOST_WORDS)]
    return found if len(found) >= FEWEST_WORDS else list(dict.fromkeys(captions))[:MOST_WORDS]


def take_apart(
    embedder: Embedder,
    data: Captioned,
    image: Float[Tensor, "n e"],
    rows: Sequence[int],
    words: Sequence[str],
) -> TakenApart:
    """Takes the embeddings of some images apart and finds words for the heads of the last layers.

    Args:
        embedder: of the encoder's raw embeddings.
        data: the images.
        image: their raw embeddings.
        rows: number of each of these in the set.
        words: texts to describe heads with.

    Raises:
        TowerError: a tower that cannot be taken apart.
        DataError: no text.
    """
    if not words:
        raise DataError("0 words to describe heads with: give at least one, a line each")
    chosen = _spread(len(rows), IMAGES)
    encoder: Any = embedder.encoder
    sums = _sums(encoder, data, [rows[i] for i in chosen])
    total = sums.attention.sum(dim=1) + sums.mlps.sum(dim=1) + sums.rest
    expected = image[chosen]
    centred = total - total.mean(dim=0)
    texts = unit(embedder.texts(words))
    return TakenApart(
        error=float((total - expected).abs().max() / expected.norm(dim=1).mean()),
        attention=tuple(_share(part, centred) for part in sums.attention.unbind(1)),
        mlps=tuple(_share(part, centred) for part in sums.mlps.unbind(1)),
        rest=_share(sums.rest, centred),
        heads=tuple(_heads(sums, centred, texts, (words, chosen))),
        images=len(chosen),
        texts=len(words),
    )


@torch.no_grad()
def _sums(encoder: Any, data: Captioned, rows: Sequence[int]) -> _Sums:
    """Parts of the images: attention by layer, and by head in the last layers."""
    tower, decompose = encoder.tower(), Decomposition(tokens=False, chunk=CHUNK)
    found: list[_Sums] = []
    for first in range(0, len(rows), CHUNK):
        pixels = torch.stack([encoder.preprocess(data.images[row]) for row in rows[first : first + CHUNK]])
        with encoder.autocast():
            parts = decompose(tower, pixels.to(encoder.device))
        heads = parts.by_head().float().cpu()
        rest = (parts.start + parts.bias).float().cpu()
        found.append(_Sums(heads.sum(dim=2), parts.mlp.float().cpu(), rest, heads[:, -LAYERS:].clone()))
    return _Sums(*(torch.cat([getattr(each, name) for each in found]) for name in _Sums.__annotations__))


def _heads(
    sums: _Sums, centred: Tensor, texts: Tensor, given: tuple[Sequence[str], Sequence[int]]
) -> Iterator[Head]:
    """The heads of the last layers, the last layer first, in each the largest share first."""
    words, chosen = given
    search, layers = TextSpan(count=WORDS), sums.attention.shape[1]
    for place in reversed(range(sums.heads.shape[1])):
        outputs = sums.heads[:, place].unbind(1)
        shares = [_share(part, centred) for part in outputs]
        for number in sorted(range(len(outputs)), key=lambda i: -shares[i]):
            part = outputs[number]
            if not float(part.var(dim=0).sum()) > 0:
                continue  # a head that gives every image the same says nothing about them
            span = search(part, texts)
            named = tuple(
                (words[i], float(energy)) for i, energy in zip(span.chosen, span.energies, strict=True)
            )
            scores = (part.double() - span.mean) @ span.directions.T
            best = scores[:, 0].argsort(descending=True)[:SHOWN].tolist() if named else []
            layer = layers - sums.heads.shape[1] + place
            yield Head(layer, number, shares[number], named, tuple(chosen[i] for i in best))


def _share(part: Tensor, centred: Tensor) -> float:
    """Covariance of a part with the embeddings over their variance: shares of all parts sum to 1."""
    whole = centred.double().square().sum()
    return float(((part - part.mean(dim=0)).double() * centred).sum() / whole) if whole > 0 else 0.0


def _spread(total: int, most: int) -> list[int]:
    """At most so many numbers, evenly spaced."""
    return list(range(total)) if total <= most else [i * total // most for i in range(most)]
