"""Several crops of each image in one step, cut on the device, and a loss over all of them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from patchclip.config import LoopConfig
from patchclip.engine.teacher import Teacher, crop
from patchclip.masking._noise import uniform
from patchclip.models.masked import MaskSlot, hash_seed
from patchclip.models.slot import SampleGenerator

RATIO = (3 / 4, 4 / 3)
"""Range of width to height of a view's box in pixels, as torchvision's RandomResizedCrop."""

BOXES = 1
"""Last part of the seed of boxes, so that they have numbers of their own beside the masks."""


@dataclass
class Views:
    """The views of one step: `crops` cuts each, and sets slot and teacher for it.

    A box covers a share a ~ U(scale) of the image's area, with width : height log-uniform in 3 : 4 .. 4 : 3,
    at a uniform place; its part of the image is resized to the image's own size, bilinearly.

    Source: Yang et al., "Attentive Mask CLIP" (A-CLIP), ICCV 2023, arXiv 2212.08653, section 3.2 (two views,
    crops of 0.5 to 1, scores of the whole image cropped to each view).
    Differs: a box that would leave the image is cut to it (torchvision draws again); the views have no colour
    augmentation of their own, they share that of the image.

    Args:
        count: of views, >= 2.
        scale: smallest and largest share of the area, 0 < smallest <= largest <= 1.
        slot: where patches are dropped, if they are.
        teacher: of a guided masker; its scores are of the whole image.
        targets: whether the teacher's embedding of the whole image goes with those of the views.
    """

    count: int
    scale: tuple[float, float]
    slot: MaskSlot | None = None
    teacher: Teacher | None = None
    targets: bool = False
    seed: tuple[int, ...] = (0,)
    rows: tuple[int, int] | None = None
    replay: list[Tensor | None] | None = None
    keep: list[Tensor | None] = field(default_factory=list)

    def aim(self, seed: tuple[int, ...], rows: tuple[int, int], replay: list[Tensor | None] | None) -> None:
        """Sets the randomness of the next forward, or the patches of an earlier pass to use again."""
        self.seed, self.rows, self.replay = seed, rows, replay

    def crops(self, pixels: Float[Tensor, "b 3 h w"]) -> Iterator[Float[Tensor, "b 3 h w"]]:
        """Each view in turn; it must go through the image tower before the next is asked for."""
        kept: list[Tensor | None] = []
        for number in range(self.count):
            box = self.boxes(len(pixels), number, pixels.device)
            if self.teacher is not None:
                self.teacher.box = box
            if self.slot is not None:
                self.slot.seed = (*self.seed, number, 0)
                self.slot.rows = self.rows
                self.slot.replay = None if self.replay is None else self.replay[number]
            yield crop(pixels, box, tuple(pixels.shape[-2:]))
            kept.append(None if self.slot is None else self.slot.keep)
        self.keep = kept

    def boxes(self, b: int, number: int, device: torch.device) -> Float[Tensor, "b 4"]:
        """Upper edge, left edge, height and width of view `number` of each image, as shares of its sides."""
        generator = SampleGenerator(device)
        generator.rows = self.rows or (0, b)
        generator.manual_seed(hash_seed((*self.seed, number, BOXES)))
        area, ratio, top, left = uniform(b, 4, generator).unbind(dim=1)
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * area
        low, high = (math.log(end) for end in RATIO)
        root = (0.5 * (low + (high - low) * ratio)).exp()  # sqrt(width / height)
        height, width = (area.sqrt() / root).clamp_max(1), (area.sqrt() * root).clamp_max(1)
        return torch.stack([top * (1 - height), left * (1 - width), height, width], dim=1)

    def embed(self, model: Any, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n e"]:
        """Unit-length embeddings of the views, and with `targets` the teacher's of the whole image behind.

        In a second pass, whose loss is known, the target is zeros.
        """
        each = [F.normalize(model.encode_image(view).float(), dim=-1) for view in self.crops(pixels)]
        if self.targets and self.teacher is not None:
            again = self.replay is not None
            each.append(torch.zeros_like(each[0]) if again else self.teacher.look()[1])
        return torch.stack(each, dim=1)


class ViewLoss(nn.Module):
    """A loss on several views: the mean of its terms over the views, and what it says `between` them.

    Args:
        loss: the loss of one view; its optional method `between(views [v,b,e], teacher [b,e] | None)` gives
            further terms.
        count: of views; an embedding behind them is the teacher's.
    """

    def __init__(self, loss: nn.Module, count: int) -> None:
        super().__init__()
        self.loss, self.count = loss, count

    def forward(
        self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None, **extras: Any
    ) -> dict[str, Tensor]:
        """Terms of the loss; image [b, v or v + 1, e]."""
        views = image[:, : self.count].unbind(dim=1)
        each = [self.loss(view, text, scale, bias, **extras) for view in views]
        terms = {name: torch.stack([found[name] for found in each]).mean(dim=0) for name in each[0]}
        between: Any = getattr(self.loss, "between", None)
        if between is not None:
            teacher = image[:, self.count].detach() if image.shape[1] > self.count else None
            terms.update(between(torch.stack(views), teacher))
        return terms


def build_views(
    config: LoopConfig, loss: nn.Module, slot: MaskSlot | None, teacher: Teacher | None
) -> Views | None:
    """The views of a run; None for one view, which is the image itself."""
    if config.views == 1:
        return None
    between = hasattr(loss, "between")
    smallest, largest = config.view_scale
    return Views(config.views, (smallest, largest), slot, teacher, between and teacher is not None)


def with_heads(loss: nn.Module, width: int, device: torch.device) -> nn.Module:
    """The loss on the device; one that learns heads of its own makes them for embeddings of `width`."""
    build_heads: Any = getattr(loss, "build_heads", None)
    if build_heads is not None:
        build_heads(width)
    return loss.to(device)
