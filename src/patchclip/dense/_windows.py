"""Where windows lie: the resized image in whole patches, windows on its grid, cells of the canvas.

Source: the sliding window of mmsegmentation (`slide_inference`) as SCLIP (Wang et al., ECCV 2024, arXiv
    2312.01597) and its successors use it: ceil((side - window) / stride) + 1 windows a side, the last one
    shifted inwards.
Differs: sides, windows and strides are whole patches, so that a cell of the canvas is one patch of every
    window over it; the field rounds to pixels and blends upsampled maps.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.errors import ConfigError

LONGEST = 2048
"""Pixels of the longer side, unless four times the short side are more (mmsegmentation's limit)."""

MOST_PIXELS = 1 << 24
"""Of a resized image: 4096 x 4096, or 2048 x 8192. It takes 192 MiB in float32, two or three times."""

MOST_CELLS = 1 << 18
"""Of a canvas: 512 MiB of features with an embedding of 512, two or three times."""


@dataclass(frozen=True)
class Sizes:
    """What is asked for, in pixels.

    Args:
        patch: side of a patch.
        step: between the corners of neighbouring patches, a divisor of `patch`.
        short_side: of the resized image.
        window: side of a window; 0 for the whole image.
        stride: between windows, whole patches.
    """

    patch: int
    step: int
    short_side: int
    window: int
    stride: int


@dataclass(frozen=True)
class Plan:
    """One image as it is seen, (height, width) throughout.

    Attributes:
        size: pixels of the resized image, whole patches.
        grid: cells of the canvas.
        window: pixels of every window.
        cells: cells of every window.
        corners: first row and column of each window, in cells.
        sizes: what it was made from.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    window: tuple[int, int]
    cells: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    sizes: Sizes


def plan(width: int, height: int, sizes: Sizes) -> Plan:
    """Size, windows and canvas of an image of width x height pixels.

    The short side becomes `short_side`, the long one follows but stays within `LONGEST` (or four times the
    short side); both are rounded to whole patches, at least one.

    Raises:
        ConfigError: more than `MOST_PIXELS`, or more patches than `MOST_CELLS`.
    """
    patch, step = sizes.patch, sizes.step
    longest = max(LONGEST, 4 * sizes.short_side)
    ratio = min(sizes.short_side / min(width, height), longest / max(width, height))
    size = (whole(height * ratio, patch), whole(width * ratio, patch))
    grid = bounded(size, sizes)
    side = whole(sizes.window, patch)
    window = size if sizes.window == 0 else (min(side, size[0]), min(side, size[1]))
    tops, lefts = (starts(side, part, sizes) for side, part in zip(size, window, strict=True))
    corners = tuple((top // step, left // step) for top in tops for left in lefts)
    return Plan(size, grid, window, cells(window, sizes), corners, sizes)


def bounded(size: tuple[int, int], sizes: Sizes) -> tuple[int, int]:
    """Cells of the canvas of a resized image. Raises ConfigError for more than memory is meant for."""
    if math.prod(size) > MOST_PIXELS:
        raise ConfigError(
            f"short_side={sizes.short_side} makes an image of {size[0]} x {size[1]} px, more than "
            f"{MOST_PIXELS}: give a smaller one; {LONGEST} fits images of any shape"
        )
    grid = cells(size, sizes)
    if math.prod(grid) > MOST_CELLS:
        raise ConfigError(
            f"step={sizes.step} makes {grid[0]} x {grid[1]} patches of an image of {size[0]} x {size[1]} px, "
            f"more than {MOST_CELLS}: give a larger step or a smaller short_side"
        )
    return grid


def whole(pixels: float, patch: int) -> int:
    """The nearest whole number of patches, at least one, in pixels."""
    return max(1, int(pixels / patch + 0.5)) * patch


def floored(pixels: int, patch: int) -> int:
    """The largest whole number of patches that is no more, at least one, in pixels."""
    return max(1, pixels // patch) * patch


def cells(size: tuple[int, int], sizes: Sizes) -> tuple[int, int]:
    """Patches in each direction of an image of `size`."""
    height, width = ((side - sizes.patch) // sizes.step + 1 for side in size)
    return height, width


def starts(side: int, window: int, sizes: Sizes) -> list[int]:
    """First pixels of the windows over one side: every cell lies in at least one.

    Overlapping patches (step < patch) straddle the border of windows that only touch, so windows then
    overlap by a patch less a step.
    """
    stride = min(sizes.stride, window - sizes.patch + sizes.step)
    count = math.ceil((side - window) / stride) + 1
    return [min(i * stride, side - window) for i in range(count)]


def weights(shape: tuple[int, int], blend: str) -> Float[Tensor, "h w 1"]:
    """What each cell of a window counts in the mean over windows.

    Args:
        shape: cells of the window.
        blend: "mean" for 1 everywhere; "ramp" falls linearly from the centre, in each direction.
    """
    if blend == "mean":
        return torch.ones(*shape, 1)
    sides = [(length - (2 * torch.arange(length) + 1 - length).abs()).float() / length for length in shape]
    return (sides[0][:, None] * sides[1])[..., None]
