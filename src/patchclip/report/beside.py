"""The run's strategy beside the others, for the page: an image once, and each mask as a drawing over it."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from patchclip.contracts import Guided, Resizing
from patchclip.data.scenes import Scene
from patchclip.errors import ConfigError
from patchclip.evaluation.mask_view import View, model_view
from patchclip.evaluation.strategies import Strategy, parse
from patchclip.models.towers import ClipEncoder
from patchclip.report.gallery import data_uri
from patchclip.report.sheet import shrunk

SIDE = 192


@dataclass(frozen=True)
class Cell:
    """One picture: a data URI, or "" for the row's own image; and the veil over its dropped patches."""

    uri: str
    veil: str


@dataclass(frozen=True)
class PageColumn:
    """A column of the page's sheet; `grid` is (rows, columns) of patches, the unit of its drawings."""

    title: str
    note: str
    cells: tuple[Cell, ...]
    grid: tuple[int, int]


def strategy_columns(
    encoder: ClipEncoder, own: Strategy, images: Sequence[Image.Image], seed: int = 0
) -> list[PageColumn]:
    """The images, the run's strategy, then every other that needs no guide, all at the end of training.

    The others drop as large a share as the run's strategy does.

    Args:
        encoder: the trained model.
        own: the run's strategy with its own options.
        images: any size; drawn as the encoder crops them.
        seed: of the masks.

    Returns:
        Columns from left to right; empty for no images.
    """
    if not images:
        return []
    view = model_view([Scene(str(i), image) for i, image in enumerate(images)], encoder)
    ratio = 1 - own.masker.kept(view.patches, view.progress) / view.patches
    others = [found for found in parse("all", ratio, _no_guide)[0] if found.name != own.name]
    pictures = tuple(Cell(data_uri(Image.fromarray(p.numpy()), SIDE), "") for p in view.pictures)
    masked = [_column(strategy, view, seed) for strategy in (own, *others)]
    return [PageColumn("image", "", pictures, view.grid), *masked]


def _no_guide(masker: Guided) -> None:
    raise ConfigError("it needs a guide")


def _column(strategy: Strategy, view: View, seed: int) -> PageColumn:
    if isinstance(strategy.masker, Resizing):
        small = strategy.masker.resized(view.grid, view.progress)
        size = (
            view.pictures.shape[2] * small[1] // view.grid[1],
            view.pictures.shape[1] * small[0] // view.grid[0],
        )
        cells = tuple(Cell(data_uri(shrunk(p, small, view.grid, size)), "") for p in view.pictures)
        return PageColumn(strategy.name, f"{small[1]} × {small[0]} patches", cells, view.grid)
    keep = strategy.keep(view, seed)
    cells = tuple(Cell("", veil(kept, view.grid)) for kept in keep)
    return PageColumn(strategy.name, f"{keep.shape[1]} of {view.patches}", cells, view.grid)


def veil(keep: Int64[Tensor, "k"], grid: tuple[int, int]) -> str:
    """The dropped patches as a path whose unit is a patch: one rectangle for each run of them in a row."""
    rows, columns = grid
    kept, path = set(keep.tolist()), []
    for y in range(rows):
        x = 0
        while x < columns:
            start = x
            while x < columns and y * columns + x not in kept:
                x += 1
            if x > start:
                path.append(f"M{start} {y}h{x - start}v1h-{x - start}z")
            x += 1
    return "".join(path)
