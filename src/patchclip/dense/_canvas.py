"""Patch features of whole images, put together from windows of several images a forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from patchclip.contracts import DenseMethod
from patchclip.dense import _pixels, _windows
from patchclip.dense._windows import Plan
from patchclip.errors import ConfigError, TowerError

MOST_TOKENS = 16384
"""Patches of one window: attention over more takes over 12 GiB a layer and image."""

MOST_WINDOWS = {"cuda": 256, "mps": 32, "cpu": 16}
"""Windows of a forward pass beyond which nothing is gained."""

MEMORY = 1 << 30
"""Bytes for a forward pass where free memory is not known."""


@dataclass(frozen=True)
class Canvas:
    """Mean over windows of unit-length patch features, so not of unit length, on the grid of a plan."""

    features: Float[Tensor, "gh gw e"]
    plan: Plan


@dataclass(frozen=True)
class Painter:
    """Reads images window by window and lays the features on canvases.

    Args:
        encoder: brings device, precision and preprocessing.
        tower: of the encoder, at the step that is wanted.
        method: how patch features are read.
        blend: see `_windows.weights`.
        batch_size: windows of a forward pass; None by memory.
    """

    encoder: Any
    tower: Any
    method: DenseMethod
    blend: str = "mean"
    batch_size: int | None = None

    def paint(self, images: Sequence[Image.Image], plans: Sequence[Plan]) -> list[Canvas]:
        """The canvases of some images: windows of equal size share forward passes.

        Raises:
            ConfigError: a window with more patches than memory allows.
            TowerError: a method that gives another grid than the window has.
        """
        config = self.encoder.architecture.preprocess_cfg
        pixels = [
            _pixels.normalised(_pixels.resized(image, plan.size, config), config)
            for image, plan in zip(images, plans, strict=True)
        ]
        sums: list[Tensor | None] = [None] * len(images)
        shapes: dict[tuple[int, int], list[tuple[int, tuple[int, int]]]] = {}
        for i, plan in enumerate(plans):
            shapes.setdefault(plan.window, []).extend((i, corner) for corner in plan.corners)
        for windows in shapes.values():
            some = plans[windows[0][0]]
            rows = self.rows(some)
            weights = _windows.weights(some.cells, self.blend).to(self.encoder.device)
            for start in range(0, len(windows), rows):
                part = windows[start : start + rows]
                views = torch.stack([window(pixels[i], plans[i], corner) for i, corner in part])
                for (i, corner), features in zip(part, self.read(views, some.cells), strict=True):
                    sums[i] = added(sums[i], features * weights, plans[i], corner)
        return [
            Canvas(each / coverage(plan, self.blend).to(each.device), plan)
            for each, plan in zip(sums, plans, strict=True)
            if each is not None
        ]

    def read(self, views: Float[Tensor, "b 3 h w"], cells: tuple[int, int]) -> Float[Tensor, "b gh gw e"]:
        """Unit-length features of windows, float32."""
        with torch.no_grad(), self.encoder.autocast():
            patches = self.method(self.tower, views.to(self.encoder.device))
        if tuple(patches.grid) != cells:
            raise TowerError(
                f"{type(self.method).__name__} gives {patches.grid[0]} x {patches.grid[1]} features for "
                f"windows of {cells[0]} x {cells[1]} patches: it must give one for each patch"
            )
        return F.normalize(patches.features.float(), dim=-1).unflatten(1, cells)

    def rows(self, plan: Plan) -> int:
        """Windows of a forward pass."""
        tokens = plan.cells[0] * plan.cells[1]
        if tokens > MOST_TOKENS:
            raise ConfigError(
                f"a window of {plan.window[0]} x {plan.window[1]} px holds {tokens} patches, more than "
                f"{MOST_TOKENS}: give a smaller window or short_side, or a larger step"
            )
        if self.batch_size is not None:
            return self.batch_size
        device = self.encoder.device
        free = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else MEMORY
        heads = self.tower.blocks[0].heads
        each = 4 * (4 * heads * tokens**2 + 24 * 64 * heads * tokens)
        return int(max(1, min(free // each, MOST_WINDOWS.get(device.type, MOST_WINDOWS["cpu"]))))


def window(pixels: Float[Tensor, "3 h w"], plan: Plan, corner: tuple[int, int]) -> Float[Tensor, "3 wh ww"]:
    """The pixels of a window."""
    top, left = (place * plan.sizes.step for place in corner)
    return pixels[:, top : top + plan.window[0], left : left + plan.window[1]]


def added(
    total: Float[Tensor, "gh gw e"] | None,
    features: Float[Tensor, "h w e"],
    plan: Plan,
    corner: tuple[int, int],
) -> Float[Tensor, "gh gw e"]:
    """The sum with one more window, in place."""
    if total is None:
        total = features.new_zeros(*plan.grid, features.shape[-1])
    place(total, plan, corner).add_(features)
    return total


def coverage(plan: Plan, blend: str) -> Float[Tensor, "gh gw 1"]:
    """Sum of the windows' weights in every cell, above 0 everywhere."""
    total = torch.zeros(*plan.grid, 1)
    weights = _windows.weights(plan.cells, blend)
    for corner in plan.corners:
        place(total, plan, corner).add_(weights)
    return total


def place(canvas: Float[Tensor, "gh gw c"], plan: Plan, corner: tuple[int, int]) -> Tensor:
    """The cells of a canvas under a window, as a view."""
    top, left = corner
    return canvas[top : top + plan.cells[0], left : left + plan.cells[1]]
