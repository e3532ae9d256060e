"""Gradients of one training step: the whole batch at once, or exactly the same in micro-batches."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from patchclip.engine.extras import Extras
from patchclip.engine.teacher import Teacher
from patchclip.engine.views import Views
from patchclip.models.masked import MaskSlot, hash_seed
from patchclip.models.text import encode_text

Scale = Callable[[Tensor], Tensor]


class Towers(nn.Module):
    """Both towers in one forward, so that DistributedDataParallel sees every parameter used."""

    model: Any

    def __init__(self, model: nn.Module, views: Views | None = None, unit_length: bool = True) -> None:
        super().__init__()
        self.model, self.views, self.unit_length = model, views, unit_length

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Unit-length image and text embeddings [b, e] in float32, exp(logit_scale), logit_bias.

        With views the image embeddings are [b, n, e], see `Views.embed`; tokens [b, n, s] give text
        embeddings [b, n, e], zeros where a row of tokens is zeros.
        """
        if self.views is None:
            image = self.scaled(self.model.encode_image(pixels).float())
        else:
            image = self.views.embed(self.model, pixels)
        text = self.read(tokens) if tokens.ndim == 2 else self.read_all(tokens)
        return image, text, self.model.logit_scale.exp(), getattr(self.model, "logit_bias", None)

    def scaled(self, embeddings: Tensor) -> Tensor:
        """Of unit length, unless the loss takes them as they are."""
        return F.normalize(embeddings, dim=-1) if self.unit_length else embeddings

    def read(self, tokens: Tensor) -> Tensor:
        """Text embeddings [b, e]."""
        return self.scaled(encode_text(self.model, tokens).float())

    def read_all(self, tokens: Tensor) -> Tensor:
        """Text embeddings [b, n, e]; a row without tokens gives zeros (it is read as its caption)."""
        given = (tokens != 0).any(dim=-1, keepdim=True)  # b n 1
        filled = torch.where(given, tokens, tokens[:, :1])
        found = self.read(filled.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        return torch.where(given, found, torch.zeros_like(found))


@dataclass(frozen=True)
class Part:
    """A micro-batch: its number, its first row in this rank's batch, and the rows of that whole batch."""

    pixels: Tensor
    tokens: Tensor
    number: int
    first: int
    whole: int


def split(pixels: Tensor, tokens: Tensor, size: int) -> list[Part]:
    """A batch in micro-batches of `size`."""
    pairs = zip(pixels.split(size), tokens.split(size), strict=True)
    return [Part(*pair, number, number * size, len(pixels)) for number, pair in enumerate(pairs)]


@dataclass
class ContrastiveStep:
    """Adds the gradients of the contrastive loss over one batch to the parameters.

    With `micro_batch` it works in two passes: embeddings of all micro-batches without graph, the loss and its
    gradient at the embeddings, then each micro-batch again with graph. The second pass replays the masks (and
    any dropout) of the first, so the gradient is that of the whole batch; drawing new masks, as open_clip's
    `--accum-freq` does, gives the gradient of no loss.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache),
    2021, arXiv 2101.06983, section 3.

    Args:
        net: `Towers`, or DistributedDataParallel around it.
        loss: maps (image, text, scale, bias) to terms; see `distributed.GatheredLoss`.
        slot: where patches are dropped.
        micro_batch: pairs held with their graph at one time, or None for all.
        autocast: makes the context of mixed precision, for the forwards.
        kernels: makes the context that chooses attention kernels, for the whole step: activations that
            `train.grad_checkpointing` recomputes in the backward must come from the same kernel.
        ranks: processes that share the batch; a mask follows its sample, not the process that draws it.
        teacher: of a guided masker; it sees each batch before the model does.
        views: those that `net` cuts.
        extras: what the loss is computed with beside the embeddings.
    """

    net: nn.Module
    loss: nn.Module
    slot: MaskSlot | None
    micro_batch: int | None
    autocast: Callable[[], contextlib.AbstractContextManager[object]]
    kernels: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    ranks: int = 1
    teacher: Teacher | None = None
    views: Views | None = None
    extras: Extras | None = None

    def __call__(
        self, pixels: Tensor, tokens: Tensor, seed: tuple[int, ...], scale: Scale
    ) -> dict[str, Tensor]:
        """Runs forward and backward.

        Args:
            pixels: [b, 3, h, w] on the model's device.
            tokens: [b, s] on the model's device, or [b, n, s] with companions behind each caption.
            seed: of masks (run seed and step) and of dropout (rank too): run seed, step, rank.
            scale: applied to the loss before backward (the gradient scaler's, in fp16).

        Returns:
            The loss's terms, detached.
        """
        with self.kernels():
            given = {} if self.extras is None else self.extras(pixels, tokens, (seed[0], seed[1]))
            if self.micro_batch is None or self.micro_batch >= len(pixels):
                terms = self.in_one_pass(pixels, tokens, seed, scale, given)
            else:
                terms = self.in_two_passes(pixels, tokens, seed, scale, given)
        return {name: value.detach() for name, value in terms.items()}

    def embed(
        self, part: Part, seed: tuple[int, ...], replay: Any = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """One forward with the randomness of `seed` and, if given, the patches of an earlier pass."""
        torch.manual_seed(hash_seed((*seed, part.number)))
        run, step, rank = seed
        rows = (rank * part.whole + part.first, self.ranks * part.whole)
        if self.teacher is not None:
            self.teacher.see(part.pixels, part.tokens if part.tokens.ndim == 2 else part.tokens[:, 0])
        if self.views is not None:
            self.views.aim((run, step), rows, replay)
        elif self.slot is not None:
            self.slot.seed, self.slot.replay, self.slot.rows = (run, step), replay, rows
        out: tuple[Tensor, Tensor, Tensor, Tensor | None] = self.net(part.pixels, part.tokens)
        return out

    def in_one_pass(
        self, pixels: Tensor, tokens: Tensor, seed: tuple[int, ...], scale: Scale, extras: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Forward and backward of the whole batch."""
        with self.autocast():
            embedded = self.embed(Part(pixels, tokens, 0, 0, len(pixels)), seed)
        terms: dict[str, Tensor] = self.loss(*embedded, **extras)
        scale(total(terms)).backward()
        return terms

    def in_two_passes(
        self, pixels: Tensor, tokens: Tensor, seed: tuple[int, ...], scale: Scale, extras: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Embeddings without graph, the loss's gradient at them, then each micro-batch with graph."""
        size = self.micro_batch or len(pixels)
        parts = split(pixels, tokens, size)
        embedded: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
        keeps: list[Any] = []
        masked = self.views or self.slot
        for part in parts:
            with torch.no_grad(), self.autocast():
                embedded.append(self.embed(part, seed))
            keeps.append(None if masked is None else masked.keep)
        image = torch.cat([e[0] for e in embedded]).requires_grad_()
        text = torch.cat([e[1] for e in embedded]).requires_grad_()
        logits = [None if v is None else v.detach().requires_grad_() for v in embedded[0][2:]]
        terms = self.loss(image, text, *logits, **extras)
        scale(total(terms)).backward()
        for part in parts:
            last = part is parts[-1]
            rows = slice(part.first, part.first + len(part.pixels))
            with self.synchronised(last):
                with self.autocast():
                    again = self.embed(part, seed, keeps[part.number])
                surrogate = dot(again[0], image.grad, rows) + dot(again[1], text.grad, rows)
                for value, leaf in zip(again[2:], logits, strict=True):
                    if value is not None:
                        share = leaf.grad if last and leaf is not None and leaf.grad is not None else 0.0
                        surrogate = surrogate + (value * share).sum()
                surrogate.backward()
        return terms

    def synchronised(self, last: bool) -> contextlib.AbstractContextManager[object]:
        """Exchange gradients between ranks with the last micro-batch only."""
        if isinstance(self.net, FSDPModule):
            self.net.set_requires_gradient_sync(last)
        if last or not isinstance(self.net, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.net.no_sync()  # type: ignore[no-any-return]


def total(terms: dict[str, Tensor]) -> Tensor:
    """The loss: the sum of its terms."""
    return torch.stack(list(terms.values())).sum()


def dot(embedding: Tensor, gradient: Tensor | None, rows: slice) -> Tensor:
    """<embedding, gradient[rows]>: its gradient at the embedding is the cached one."""
    if gradient is None:
        raise RuntimeError("the loss does not depend on its embeddings")
    return (embedding * gradient[rows]).sum()
