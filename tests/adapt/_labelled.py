"""Small labelled pictures in memory, and small models of every kind to adapt to them."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip.models.architectures import create
from tests.models._tiny import NATIVE, TEXT, TINY, build

CUSTOM = {
    **TINY,
    "vision_cfg": {**NATIVE, "block_type": "custom"},
    "text_cfg": {**TEXT, "block_type": "custom"},
}
KINDS = ("native", "custom", "timm", "eva")
"""open_clip's ViT, the same with its own attention, and timm's towers in CustomTextCLIP."""


@dataclass(frozen=True)
class Pictures:
    """Shots in memory."""

    images: Tensor
    labels: Tensor

    def pixels(self, rows: Sequence[int]) -> Tensor:
        return self.images[list(rows)]


@cache
def custom() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create("ViT-Ti-16", overrides=CUSTOM).model


def model_of(kind: str = "native") -> Any:
    """A small CLIP in eval mode, the same weights each time."""
    found = copy.deepcopy(custom()) if kind == "custom" else build(kind).model
    return found.eval()


def shots_of(model: Any, classes: int = 3, shots: int = 4, noise: float = 0.5, seed: int = 0) -> Pictures:
    """Noisy copies of one picture a class; another seed is other noise on the same pictures."""
    side = model.visual.image_size
    side = side if isinstance(side, int) else side[0]
    kinds = torch.randn(classes, 3, side, side, generator=torch.Generator().manual_seed(77))
    labels = torch.arange(classes).repeat(shots)
    drawn = torch.randn(len(labels), 3, side, side, generator=torch.Generator().manual_seed(seed))
    return Pictures(kinds[labels] + noise * drawn, labels)


def prompts(classes: int = 3) -> Tensor:
    """Token rows of one word each, as the tokenizer writes them."""
    rows = torch.zeros(classes, 16, dtype=torch.int64)
    rows[:, 0], rows[:, 1], rows[:, 2] = 49406, torch.arange(classes) + 320, 49407
    return rows


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def accuracy(model: Any, shots: Pictures, tokens: Tensor) -> float:
    """Share of the pictures whose own prompt is the nearest."""
    image = F.normalize(model.encode_image(shots.images).float(), dim=-1)
    text = F.normalize(model.encode_text(tokens).float(), dim=-1)
    return float(((image @ text.T).argmax(1) == shots.labels).float().mean())


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Names whose values are not what they were, bit for bit."""
    after = model.state_dict()
    assert list(after) == list(before)
    return {name for name, value in before.items() if not torch.equal(after[name], value)}


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Modules, their classes, modes, hooks, parameters, flags and gradients are the same at the end."""

    def outside() -> tuple[Any, ...]:
        modules = [(name, id(m), type(m), m.training) for name, m in model.named_modules()]
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        own = [(name, id(p), p.requires_grad, p.grad, p.dtype) for name, p in model.named_parameters()]
        return modules, hooks, own

    before = outside()
    yield
    assert outside() == before
