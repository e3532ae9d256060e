"""What a training step asks of its methods: the seams of `losses/` and `stability/`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Loss(Protocol):
    """A contrastive objective on unit-length embeddings; the returned terms sum to the loss.

    A loss may have these attributes, which `engine/` reads:

        wants         names of the extras below that it is computed with; () if absent
        unit_length   False where it takes embeddings as the towers give them, not of unit length
        similarity    method (width e) -> settings of `models.similarity.Lifted` that the model is scored by
        initial_logits, chance   temperature and bias to start with; the loss of guessing (None: unknown)

    Extras, rows in the order of the pairs:

        generator                   torch.Generator on the embeddings' device, the same on every rank
        negative_text               [b,e] of a caption that is false of image i; zeros where there is none
        short_text                  [b,e] of a shorter caption of image i; zeros where there is none
        negative_image              [b,e] of an image that the caption is false of; zeros where there is none
        teacher_image teacher_text  [b,e] of the towers as they were before training, without a gradient; of
                                    unit length unless `unit_length` is False
        teacher_scale               0-d, exp(logit_scale) of these
        reference_text              [b,f] of another, frozen text tower, which `reference` names; unit length
    """

    def __call__(
        self,
        image: Float[Tensor, "b e"],
        text: Float[Tensor, "b e"],
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        **extras: Any,
    ) -> dict[str, Tensor]: ...


@runtime_checkable
class Wrapping(Protocol):
    """A loss made of another one, which whoever uses it sets before the first call."""

    wraps: str
    """The other loss as the command line writes methods: "clip" or "clip:label_smoothing=0.1"."""

    inner: Any
    """The other loss itself."""


@dataclass(frozen=True)
class ClipStats:
    """What a gradient clipper did: norm before, threshold, share of parameters scaled (0-d tensors)."""

    norm: Tensor
    threshold: Tensor
    clipped_share: Tensor


@runtime_checkable
class GradClipper(Protocol):
    """Limits gradients in place, between backward and the optimizer step, on unscaled gradients."""

    def __call__(self, named_parameters: Iterable[tuple[str, nn.Parameter]]) -> ClipStats: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
