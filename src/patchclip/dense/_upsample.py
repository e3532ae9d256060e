"""From cells to pixels tile by tile: bilinear scores, their softmax and its best name, never [n, h, w].

label(y, x) = argmax_n s_n(y, x) with s_n the bilinear interpolation (align_corners=False) of name n's cells.
Names are read in chunks with a running maximum and a running sum of exponentials, so that memory is bounded
for any number of names and pixels. Where only the best name is asked for, names that cannot win in a tile
are left out: between four cells a score lies between their least and their greatest.
Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, arXiv 1805.02867 (the
    running sum).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

TILES = {"cuda": (512, 512)}
TILE = (64, 128)
"""Rows and columns of pixels read at once: on a CPU what its cache holds."""

NAMES = 128
"""Names of one chunk."""


@dataclass(frozen=True)
class Layer:
    """Scores of some names on cells of one kind.

    Attributes:
        scores: cosines, [n, gh, gw].
        names: which names of the vocabulary they are.
        size: (height, width) in pixels of what the cells cover.
        patch: side of a cell in these pixels.
        step: pixels between neighbouring cells.
    """

    scores: Float[Tensor, "n gh gw"]
    names: Int64[Tensor, "n"]
    size: tuple[int, int]
    patch: int
    step: int

    def only(self, chosen: Bool[Tensor, "n"]) -> "Layer":
        """Of some names."""
        return Layer(self.scores[chosen], self.names[chosen], self.size, self.patch, self.step)

    def at(self, number: int) -> "Layer":
        """Of one name."""
        part = slice(number, number + 1)
        return Layer(self.scores[part], self.names[part], self.size, self.patch, self.step)


@dataclass(frozen=True)
class Tile:
    """Rows and columns of pixels: [top, bottom) x [left, right)."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Best:
    """What the softmax over all names says of every pixel of a tile.

    Attributes:
        name: the best name.
        top: its logit, score times scale.
        total: sum over names of exp(logit - top); the probability of `name` is 1 / total. None if not asked.
        mean: sum over names of p * (logit - top), at most 0. None if not asked.
    """

    name: Int64[Tensor, "r w"]
    top: Float[Tensor, "r w"]
    total: Float[Tensor, "r w"] | None = None
    mean: Float[Tensor, "r w"] | None = None

    @property
    def confidence(self) -> Float[Tensor, "r w"]:
        """Probability of the best name, in (0, 1]."""
        if self.total is None:
            raise ValueError("read with probabilities=True")
        return 1 / self.total

    @property
    def entropy(self) -> Float[Tensor, "r w"]:
        """Of the softmax over names, in nats, in [0, log n]: log(total) - mean."""
        if self.total is None or self.mean is None:
            raise ValueError("read with entropy=True")
        return (self.total.log() - self.mean).clamp(min=0)


@dataclass(frozen=True)
class Side:
    """Two cells and the share of the second for every pixel along one side."""

    low: Int64[Tensor, "p"]
    high: Int64[Tensor, "p"]
    share: Float[Tensor, "p"]

    def part(self, start: int, stop: int) -> tuple[Float[Tensor, "p k"], slice]:
        """Weights of the cells under some pixels, and which cells these are."""
        first, last = int(self.low[start]), int(self.high[stop - 1])
        weights = torch.zeros(stop - start, last - first + 1)
        rows = torch.arange(stop - start)
        share = self.share[start:stop]
        weights[rows, self.low[start:stop] - first] = 1 - share
        weights[rows, self.high[start:stop] - first] += share
        return weights, slice(first, last + 1)


def side(pixels: int, covered: int, cells: int, layer: Layer) -> Side:
    """Where pixel centres fall between cell centres; beyond the outer centres the outer cell counts alone.

    Args:
        pixels: of the side that is asked for.
        covered: pixels of this side that the cells cover.
        cells: along this side.
        layer: of the cells.
    """
    centres = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (covered / pixels)
    places = ((centres - layer.patch / 2) / layer.step).clamp(0, cells - 1)
    low = places.floor().long()
    return Side(low, (low + 1).clamp(max=cells - 1), (places - low).float())


class Reader:
    """Reads layers of scores at the pixels of an image.

    Args:
        layers: at least one; together the vocabulary.
        size: (height, width) of the image in pixels.
        scale: what scores are multiplied by before the softmax.
    """

    def __init__(self, layers: Sequence[Layer], size: tuple[int, int], scale: float) -> None:
        self.layers, self.size, self.scale = layers, size, scale
        self.sides = [sides(layer, size) for layer in layers]
        self.able = [able(layer.scores) for layer in layers]

    def tiles(self) -> Iterator[Tile]:
        """All tiles of the image, row by row."""
        height, width = self.size
        rows, columns = TILES.get(self.layers[0].scores.device.type, TILE)
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                yield Tile(top, min(top + rows, height), left, min(left + columns, width))

    def read(self, tile: Tile, probabilities: bool = False, entropy: bool = False) -> Best:
        """The best name of every pixel of a tile; of equal scores the name that comes first.

        Args:
            tile: of the image.
            probabilities: whether `confidence` is asked for; without it names that cannot win are left out.
            entropy: whether `entropy` is asked for.
        """
        found: Best | None = None
        for layer, (rows, columns), winners in zip(self.layers, self.sides, self.able, strict=True):
            down, high = rows.part(tile.top, tile.bottom)
            across, wide = columns.part(tile.left, tile.right)
            cells, names = layer.scores[:, high, wide], layer.names
            if not (probabilities or entropy):
                chosen = winners[:, high, wide].flatten(1).any(dim=1)
                cells, names = cells[chosen], names[chosen]
            for i in range(0, len(names), NAMES):
                scores = interpolated(cells[i : i + NAMES], down, across)
                part = best(scores.mul_(self.scale), names[i : i + NAMES], probabilities, entropy)
                found = part if found is None else joined(found, part)
        if found is None:
            raise ValueError("there is no name")
        return found


def every_pixel(layer: Layer, size: tuple[int, int]) -> Float[Tensor, "n h w"]:
    """Scores of all names at all pixels at once: for few names and a small size."""
    (down, high), (across, wide) = (
        each.part(0, pixels) for each, pixels in zip(sides(layer, size), size, strict=True)
    )
    return interpolated(layer.scores[:, high, wide], down, across)


def probability(layer: Layer, number: int, size: tuple[int, int], scale: float) -> Float[Tensor, "h w"]:
    """Softmax probability of one name among those of a layer at every pixel, tile by tile."""
    own, reader = Reader([layer.at(number)], size, scale), Reader([layer], size, scale)
    found = torch.empty(size)
    for tile in reader.tiles():
        best = reader.read(tile, probabilities=True)
        logit = own.read(tile).top
        found[tile.top : tile.bottom, tile.left : tile.right] = (logit - best.top).exp() * best.confidence
    return found


def sides(layer: Layer, size: tuple[int, int]) -> tuple[Side, Side]:
    """Rows and columns of an image over the layer's cells."""
    gh, gw = layer.scores.shape[1:]
    return side(size[0], layer.size[0], gh, layer), side(size[1], layer.size[1], gw, layer)


def interpolated(
    cells: Float[Tensor, "n gh gw"], down: Float[Tensor, "h gh"], across: Float[Tensor, "w gw"]
) -> Float[Tensor, "n h w"]:
    """Bilinear scores of pixels: cells weighted along columns, then along rows."""
    down, across = down.to(cells.device), across.to(cells.device)
    return torch.matmul(down, torch.matmul(cells, across.T))


def able(scores: Float[Tensor, "n gh gw"]) -> Bool[Tensor, "n gh gw"]:
    """Whether a name may be the best between a cell and the next ones below and beside it.

    It cannot where its greatest of these four scores is below the least of another name.
    """
    padded = F.pad(scores[None], (0, 1, 0, 1), mode="replicate")
    greatest = F.max_pool2d(padded, 2, stride=1)[0]
    least = -F.max_pool2d(-padded, 2, stride=1)[0]
    return greatest >= least.amax(dim=0)


def best(
    logits: Float[Tensor, "n r w"], names: Int64[Tensor, "n"], probabilities: bool, entropy: bool
) -> Best:
    """The softmax over one chunk of names."""
    top = logits.amax(dim=0)
    countdown = torch.arange(len(names), 0, -1, dtype=torch.int16, device=logits.device)
    place = len(names) - ((logits == top) * countdown[:, None, None]).amax(dim=0).long()
    if not (probabilities or entropy):
        return Best(names[place], top)
    below = logits.sub_(top)
    powers = below.exp()
    total = powers.sum(dim=0)
    mean = powers.mul_(below).sum(dim=0) / total if entropy else None
    return Best(names[place], top, total, mean)


def joined(first: Best, second: Best) -> Best:
    """The softmax over the names of two chunks."""
    top = torch.maximum(first.top, second.top)
    earlier = (first.top > second.top) | ((first.top == second.top) & (first.name < second.name))
    name = torch.where(earlier, first.name, second.name)
    if first.total is None or second.total is None:
        return Best(name, top)
    below, under = first.top - top, second.top - top
    a, b = first.total * below.exp(), second.total * under.exp()
    if first.mean is None or second.mean is None:
        return Best(name, top, a + b)
    return Best(name, top, a + b, (a * (first.mean + below) + b * (second.mean + under)) / (a + b))
