"""A CLIP while it is adapted: other weights stand in for its own, which change only when all is done."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call

from patchclip.contracts import Shots
from patchclip.errors import DataError, TowerError


@contextlib.contextmanager
def held(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients of its own; each module and flag as before at the end."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval().requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class _Body(nn.Module):
    """Work on a model as the forward of a module, which is what `functional_call` runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Tensor]) -> Tensor:
        return work()


def substituted(model: nn.Module, weights: Mapping[str, Tensor], work: Callable[[], Tensor]) -> Tensor:
    """What `work()` returns while the parameters of these names are other tensors.

    The backward belongs into `work`: recomputed activations then see the same weights.
    """
    stand_ins = {f"model.{name}": weight for name, weight in weights.items()}
    found: Tensor = functional_call(_Body(model), stand_ins, (work,))
    return found


@torch.no_grad()
def merge(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copies values into the parameters of these names, which stay the same objects."""
    for name, weight in weights.items():
        model.get_parameter(name).copy_(weight)


def trainable(tower: nn.Module) -> list[str]:
    """Names of the parameters that are not frozen.

    Raises:
        TowerError: there are none.
    """
    names = [name for name, parameter in tower.named_parameters() if parameter.requires_grad]
    if not names:
        raise TowerError(
            "every parameter of the image tower is frozen: call model.visual.requires_grad_(True)"
        )
    return names


def wide(numbers: Tensor) -> Tensor:
    """The numbers in float32, or as they are if in float64."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


class Classes:
    """Images, labels and prompts as a model takes them, on its device and in its dtype.

    Args:
        model: a CLIP.
        shots: labelled images.
        tokens: a prompt of each class.

    Raises:
        TowerError: a model without `encode_image`, `encode_text`, `logit_scale` or `visual`.
        DataError: no images, fewer than two classes, or labels that are none of them.
    """

    def __init__(self, model: Any, shots: Shots, tokens: Int64[Tensor, "c s"]) -> None:
        for name in ("encode_image", "encode_text", "logit_scale", "visual"):
            if not hasattr(model, name):
                raise TowerError(f"{type(model).__name__} has no {name}: use a model that open_clip loads")
        labels = shots.labels
        if not len(labels) or len(tokens) < 2:
            raise DataError(
                f"got {len(labels)} images and {len(tokens)} classes: at least 1 and 2 are needed"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(tokens):
            raise DataError(f"labels must be in [0, {len(tokens)}), a prompt for each; got {low} to {high}")
        weights = list(model.visual.parameters())
        kernel = next((p for p in weights if p.ndim == 4), weights[0])
        self.model, self.shots = model, shots
        self.device, self.dtype = kernel.device, kernel.dtype
        self.tokens, self.labels = tokens.to(self.device), labels.to(self.device)
        self.scale = wide(model.logit_scale.detach().to(self.device)).exp()

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: Sequence[int]) -> Float[Tensor, "b e"]:
        """Unit-length embeddings of the images of these rows, float32 or wider."""
        pixels = self.shots.pixels(rows).to(self.device, self.dtype)
        if len(pixels) != len(rows):
            raise DataError(f"shots.pixels gave {len(pixels)} images for {len(rows)} rows")
        return F.normalize(wide(self.model.encode_image(pixels)), dim=-1)

    def texts(self) -> Float[Tensor, "c e"]:
        """Unit-length embeddings of the prompts, float32 or wider."""
        return F.normalize(wide(self.model.encode_text(self.tokens)), dim=-1)
