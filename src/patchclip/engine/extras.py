"""What a loss is computed with beside the embeddings of the pairs: `contracts.Loss` names these extras."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchclip import registry, spec
from patchclip.config import TrainConfig, chooses
from patchclip.contracts import TextCorruptor, Wrapping
from patchclip.data.companions import Companion, Corrupted, Fitted, ShortText
from patchclip.data.pairs import PairSource
from patchclip.errors import ConfigError
from patchclip.models.architectures import WITH_WEIGHTS, Architecture
from patchclip.models.masked import attach, hash_seed
from patchclip.models.text import encode_text
from patchclip.models.towers import load

COMPANIONS = ("negative_text", "short_text")
"""Extras that are texts beside each caption, in the order in which a batch holds them."""

TEACHER = ("teacher_image", "teacher_text", "teacher_scale")
KNOWN = {*COMPANIONS, *TEACHER, "generator", "reference_text"}
READ = 20_000
"""Pairs whose captions a corruptor learns from."""

BESIDE = ("between", "build_heads", "pairwise")
"""Traits of a loss that a loss around it would not pass on."""

DRAWS = 3
"""Last part of the seed of a loss's generator, so that it has numbers of its own beside the masks."""


class WithCompanions(nn.Module):
    """A loss of texts [b, n, e]: behind each caption's own embedding lie those of its companions.

    Args:
        loss: takes the companions as extras.
        names: of the extras, in their order.
    """

    def __init__(self, loss: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.loss, self.names = loss, tuple(names)

    def forward(
        self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None, **extras: Any
    ) -> dict[str, Tensor]:
        """Terms of the loss."""
        own, *others = text.unbind(dim=1)
        given = dict(zip(self.names, others, strict=True))
        terms: dict[str, Tensor] = self.loss(image, own, scale, bias, **given, **extras)
        return terms


@dataclass(frozen=True)
class Extras:
    """What a loss wants of each batch that has no gradient; computed once a batch, on this rank.

    Args:
        wants: names, from `contracts.Loss`.
        device: of the run.
        autocast: makes the context of mixed precision.
        micro_batch: pairs encoded at once, or None for all.
        teacher: the towers as they were before training, frozen, if they are wanted.
        reference: model of another, frozen text tower, if it is wanted.
        unit_length: whether the teacher's embeddings are of unit length, as those of the model.
    """

    wants: tuple[str, ...]
    device: torch.device
    autocast: Callable[[], contextlib.AbstractContextManager[object]]
    micro_batch: int | None = None
    teacher: Any = None
    reference: Any = None
    unit_length: bool = True

    @torch.no_grad()
    def __call__(self, pixels: Tensor, tokens: Tensor, seed: tuple[int, int]) -> dict[str, Any]:
        """The extras of a batch.

        Args:
            pixels: [b, 3, h, w].
            tokens: [b, s], or [b, n, s] with companions behind each caption.
            seed: of what the loss draws: run and step, the same on every rank.
        """
        found: dict[str, Any] = {}
        own = tokens if tokens.ndim == 2 else tokens[:, 0]
        if "generator" in self.wants:
            found["generator"] = torch.Generator(self.device).manual_seed(hash_seed((*seed, DRAWS)))
        with self.autocast():
            if self.teacher is not None:
                found["teacher_image"] = self.rows(self.teacher.encode_image, pixels)
                found["teacher_text"] = self.rows(lambda part: encode_text(self.teacher, part), own)
                found["teacher_scale"] = self.teacher.logit_scale.exp()
            if self.reference is not None:
                rows = self.rows(lambda part: encode_text(self.reference, part), own)
                found["reference_text"] = F.normalize(rows, dim=-1)
        return found

    def rows(self, encode: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Embeddings, float32, some at a time."""
        size = self.micro_batch or len(inputs)
        found = torch.cat([encode(part).float() for part in inputs.split(size)])
        return F.normalize(found, dim=-1) if self.unit_length else found


def made_whole(loss: nn.Module) -> nn.Module:
    """The loss, with the one that it wraps, if it wraps one.

    Raises:
        ConfigError: the inner loss is unknown, wraps another, takes embeddings of any length, or reads more
            than the embeddings of one view: several views at once, heads of its own, scores of a patch head.
    """
    if isinstance(loss, Wrapping):
        inner: nn.Module = spec.build("losses", spec.inner(loss.wraps))
        more = any(getattr(inner, name, None) for name in BESIDE)
        if isinstance(inner, Wrapping) or more or not getattr(inner, "unit_length", True):
            raise ConfigError(
                f"loss.wraps={loss.wraps!r} cannot stand inside {type(loss).__name__}: it must be a loss of "
                "one view's unit-length embeddings, without heads, that wraps no other, as clip, siglip or "
                "contrastive_gap"
            )
        loss.inner = inner
    return loss


def trait(loss: Any, name: str, default: Any = None) -> Any:
    """An attribute of a loss, or of the one that it wraps."""
    inner = loss.inner if isinstance(loss, Wrapping) else None
    return getattr(loss, name, getattr(inner, name, default))


def wants_of(loss: Any) -> tuple[str, ...]:
    """Names of the extras that a loss, or the one that it wraps, is computed with."""
    inner = loss.inner if isinstance(loss, Wrapping) else None
    return tuple(dict.fromkeys([*getattr(loss, "wants", ()), *getattr(inner, "wants", ())]))


def check_wants(config: TrainConfig, loss: Any) -> None:
    """Raises ConfigError for a loss whose extras this run cannot give, and for extras that no loss wants."""
    wants, name = wants_of(loss), config.loss.get("name")
    unknown = [want for want in wants if want not in KNOWN]
    if unknown:
        raise ConfigError(
            f"loss.name={name} wants {', '.join(unknown)}, which a run cannot give it "
            f"(Known: {', '.join(sorted(KNOWN))}): call it from Python"
        )
    if wants and chooses(config, "head"):
        raise ConfigError(
            f"loss.name={name} wants {', '.join(wants)}, which a head is not trained with: take "
            "loss.name=pacl, or head.name=null to train the towers"
        )
    if config.train.views > 1 and not trait(loss, "unit_length", True):
        raise ConfigError(
            f"train.views={config.train.views}, but loss.name={name} takes embeddings that are not of unit "
            "length, which views are: set train.views=1"
        )
    negatives = config.data.negatives
    if "negative_text" in wants and negatives is None:
        raise ConfigError(f"loss.name={name} learns of false captions: set data.negatives=hard")
    if "negative_text" not in wants and negatives is not None:
        raise ConfigError(
            f"data.negatives={negatives}, but loss.name={name} does not look at false captions: unset it, or "
            "take loss.name=triplet"
        )
    if {*wants} & {*TEACHER} and not starts_trained(config):
        raise ConfigError(
            f"loss.name={name} holds the model to what it was before training, so it must have been trained: "
            "set model.pretrained"
        )
    check_average(config, loss)


def check_average(config: TrainConfig, loss: Any) -> None:
    """Raises ConfigError for averaged towers whose loss learns what they are scored by, not averaged."""
    if config.train.ema and trait(loss, "similarity") and [*loss.parameters()]:
        learnt = ", ".join(name for name, _ in loss.named_parameters())
        raise ConfigError(
            f"train.ema={config.train.ema} averages the towers, but not what loss.name={config.loss['name']} "
            f"learns beside them ({learnt}), by which they are scored: set train.ema=0, or take a loss or "
            "metric that learns nothing itself"
        )


def starts_trained(config: TrainConfig) -> bool:
    """Whether the model starts from weights that were trained."""
    name = config.model.name
    return bool(config.model.pretrained) or name.startswith(WITH_WEIGHTS) or Path(name).is_dir()


def companions_of(config: TrainConfig, loss: Any, source: PairSource) -> Iterator[Companion]:
    """What the stream puts beside each caption, in the order of `COMPANIONS`."""
    wants = wants_of(loss)
    if "negative_text" in wants and config.data.negatives is not None:
        yield Corrupted(corruptor_of(config.data.negatives, source))
    if "short_text" in wants:
        yield ShortText()


def corruptor_of(chosen: str, source: PairSource) -> TextCorruptor:
    """The corruptor that `data.negatives` describes; one that learns from captions gets those of the source.

    They are those of up to `READ` pairs, spread evenly: the same on every rank.
    """
    made = falsifier(chosen, "data.negatives=")
    if isinstance(made, Fitted):
        rows = range(0, len(source), max(1, -(-len(source) // READ)))
        made = made.fitted(text for row in rows for text in source.texts(row))
    return made


def falsifier(chosen: str, setting: str) -> TextCorruptor:
    """A corruptor whose captions are false.

    Args:
        chosen: NAME or NAME:key=value;key=value.
        setting: what the user writes before it, for messages.

    Raises:
        ConfigError: it is unknown, or its captions are not false (`false`), as those of `remove`.
    """
    made: TextCorruptor = spec.build("corruptors", chosen)
    if not getattr(made, "false", True):
        raise ConfigError(
            f"{setting}{chosen} must make captions false, but it makes them say less, which stays true of "
            f"the image: set {setting}hard"
        )
    return made


def with_companions(loss: nn.Module) -> nn.Module:
    """A loss that takes the texts of its companions apart, if it has any."""
    names = [name for name in COMPANIONS if name in wants_of(loss)]
    return WithCompanions(loss, names) if names else loss


def build_extras(
    config: TrainConfig,
    architecture: Architecture,
    loss: Any,
    device: torch.device,
    autocast: Callable[[], contextlib.AbstractContextManager[object]],
    micro_batch: int | None,
) -> Extras | None:
    """What the loss wants without a gradient; None where it wants nothing. Call it before masks are attached.

    Raises:
        ConfigError: the reference reads other tokens than the model.
        TowerError: a teacher of stages with smaller images whose tower takes none.
    """
    wants = tuple(want for want in wants_of(loss) if want not in COMPANIONS)
    if not wants:
        return None
    teacher = frozen_copy(config, architecture.model) if {*wants} & {*TEACHER} else None
    reference = None
    if "reference_text" in wants:
        reference = reference_of(trait(loss, "reference"), architecture, device)
    unit_length = bool(trait(loss, "unit_length", True))
    return Extras(wants, device, autocast, micro_batch, teacher, reference, unit_length)


def frozen_copy(config: TrainConfig, model: nn.Module) -> nn.Module:
    """The model as it is now; where stages have smaller images, with a slot that lets it take them."""
    teacher = frozen(copy.deepcopy(model))
    if any(stage.image_size is not None for stage in config.train.stages):
        attach(teacher, registry.build("masking", "none"))
    return teacher


def reference_of(name: str, architecture: Architecture, device: torch.device) -> nn.Module:
    """The model whose frozen text tower compares captions.

    Raises:
        ConfigError: its tokenizer is another one, or its context is shorter.
    """
    found = load(name, device=str(device))
    probe = ["a photo of 3 cats, Zürich", "x"]
    ours, theirs = architecture.tokenizer(probe), found.tokenizer(probe)
    width = min(ours.shape[1], theirs.shape[1])
    if ours.shape[1] > theirs.shape[1] or not torch.equal(ours[:, :width], theirs[:, :width]):
        raise ConfigError(
            f"loss.reference={name} reads other tokens than {architecture.name}, or fewer: take a CLIP with "
            f"the same tokenizer and a context of at least {ours.shape[1]} tokens"
        )
    return frozen(found.model)


def frozen(model: nn.Module) -> nn.Module:
    """The model in eval mode, without gradients."""
    return model.eval().requires_grad_(False)
