"""Images as maskers see them: pixels, tokens and a patch grid, from a model or from pixels alone."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from patchclip.data.scenes import Scene
from patchclip.data.transforms import denormalise, eval_transform
from patchclip.errors import ConfigError, DataError, TowerError
from patchclip.models.masked import masked
from patchclip.models.towers import ClipEncoder

BATCH = 16


@dataclass(frozen=True)
class View:
    """What a masker is given for some images.

    Args:
        pixels: [b,3,h,w], normalised, cropped to whole patches.
        tokens: [b,l,d], the tower's patch tokens before its first block; without a tower the patches' pixels.
        pictures: uint8 [b,h,w,3], `pixels` to look at, on the CPU.
        area: [b,l], share of each patch that is foreground, on the CPU; NaN where it is not known.
        grid: rows and columns of patches.
        progress: of training, in [0, 1].
        encoder: the model, None where pixels stand alone.
    """

    pixels: Tensor
    tokens: Tensor
    pictures: Tensor
    area: Tensor
    grid: tuple[int, int]
    progress: float
    encoder: ClipEncoder | None = None

    @property
    def patches(self) -> int:
        """Patches an image has."""
        return self.grid[0] * self.grid[1]


def plain_view(scenes: Sequence[Scene], size: int = 224, patch: int = 16) -> View:
    """Images without a model, at the start of training, where masks read pixels only.

    A patch's token is its own pixels, as a patch embedding that loses nothing would pass them on.

    Args:
        scenes: at least one.
        size: side of the square crop in pixels.
        patch: side of a patch in pixels; divides `size`.

    Raises:
        ConfigError: `patch` does not divide `size`.
    """
    if not 1 <= patch <= size or size % patch:
        near = max(patch, 1) * max(1, round(size / max(patch, 1)))
        raise ConfigError(f"size={size} must be whole patches of patch={patch} pixels: use size={near}")
    transform = eval_transform(size)
    pixels = torch.stack([transform(scene.image) for scene in scenes])
    side = size // patch
    area = _areas(scenes, lambda image: denormalise(transform(image)[None]), (side, side))
    tokens = F.unfold(pixels, patch, stride=patch).transpose(1, 2)  # b l 3*patch*patch
    return View(pixels, tokens, denormalise(pixels), area, (side, side), 0.0)


@torch.no_grad()
def model_view(scenes: Sequence[Scene], encoder: ClipEncoder, progress: float = 1.0) -> View:
    """Images with a model's own preprocessing, patch grid and tokens.

    Args:
        scenes: at least one.
        encoder: from `patchclip.load`.
        progress: of training, in [0, 1].

    Raises:
        ConfigError: `progress` outside its range.
        TowerError: the tower cannot drop patches.
    """
    if not 0 <= progress <= 1:
        raise ConfigError(f"progress={progress} must be in [0, 1]: 0 is the start of training, 1 its end")
    grid = encoder.grid
    seen = [
        _before_the_first_block(encoder, torch.stack([encoder.preprocess(scene.image) for scene in part]))
        for part in (scenes[i : i + BATCH] for i in range(0, len(scenes), BATCH))
    ]
    pixels, tokens = (torch.cat(parts) for parts in zip(*seen, strict=True))
    cfg = encoder.architecture.preprocess_cfg
    mean, std = tuple(cfg["mean"]), tuple(cfg["std"])

    def shown(pixels: Tensor) -> Tensor:
        return denormalise(pixels, mean=mean, std=std).cpu()

    height, width = pixels.shape[-2:]
    area = _areas(scenes, lambda image: shown(encoder.preprocess(image)[None])[:, :height, :width], grid)
    return View(pixels, tokens, shown(pixels), area, grid, progress, encoder)


def _areas(
    scenes: Sequence[Scene],
    transform: Callable[[Image.Image], UInt8[Tensor, "1 h w 3"]],
    grid: tuple[int, int],
) -> Float[Tensor, "b l"]:
    """Share of foreground in each patch; the mask goes the way of its image: resized, cropped."""
    rows = []
    for scene in scenes:
        if scene.foreground is None:
            rows.append(torch.full((grid[0] * grid[1],), torch.nan))
            continue
        cover = transform(scene.foreground.convert("RGB"))[..., 0].float() / 255
        area = F.adaptive_avg_pool2d(cover, grid).flatten()
        if not area.any():
            raise DataError(f"{scene.name}: no foreground is left in the square crop that the model sees")
        rows.append(area)
    return torch.stack(rows)


class _Seen(Exception):
    """Ends a forward as soon as the probe has what it wants."""


class _Probe:
    """A masker that keeps what it is given and stops the tower there."""

    def __init__(self) -> None:
        self.given: tuple[Tensor, Tensor] | None = None

    def kept(self, patches: int, progress: float) -> int:
        return patches - 1

    def select(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        tokens: Float[Tensor, "b l d"],
        progress: float,
        generator: torch.Generator,
    ) -> Int64[Tensor, "b k"]:
        self.given = (pixels, tokens)
        raise _Seen


def _before_the_first_block(encoder: ClipEncoder, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and tokens as the encoder's tower hands them to a masker."""
    probe = _Probe()
    with masked(encoder.model, probe), contextlib.suppress(_Seen):
        encoder.model.visual(pixels.to(encoder.device))
    if probe.given is None:
        raise TowerError(f"{encoder.name} handed no patches to the mask: use a ViT with more than one patch")
    return probe.given
