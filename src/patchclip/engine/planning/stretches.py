"""How image size, patches kept and text tokens change in the course of a run, and what a pair costs then."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from patchclip.config import TrainConfig
from patchclip.contracts import Guided, Masker, Resizing
from patchclip.engine.assemble import build_method
from patchclip.engine.extras import COMPANIONS, TEACHER, made_whole, wants_of
from patchclip.engine.planning.estimates import Inputs, Step, pair_flops
from patchclip.engine.stages import stage_at
from patchclip.models.cost import Outline

SAMPLED = 2000
"""Steps at which the masker is asked how many patches it keeps; a longer run is sampled evenly."""


@dataclass(frozen=True)
class Stretch:
    """A part of training, `start` to `stop` of it in [0, 1], with one image size and one length of text.

    Patches kept of a view are the fewest, the mean and the most; `flops` is the mean of a pair.
    """

    start: float
    stop: float
    image_size: int
    patches: int
    kept: tuple[int, float, int]
    words: int
    views: int
    masked: bool
    flops: float


@dataclass(frozen=True)
class Moment:
    """What holds at one step: its place in training, sizes, whether patches are dropped, inputs, cost."""

    progress: float
    image_size: int
    words: int
    masked: bool
    inputs: Inputs
    flops: float


def dense_inputs(model: Outline) -> Inputs:
    """One pair at the model's own sizes, without mask."""
    patches = (model.image_size // model.image.patch) ** 2
    return Inputs(patches, patches, model.context_length)


def walk(
    config: TrainConfig, model: Outline, steps: int, step: Step
) -> tuple[tuple[Stretch, ...], float, Inputs]:
    """The stretches of a run, the mean operations of a pair, and the inputs that take most."""
    moments = list(look(config, model, steps, step))
    mean = sum(moment.flops for moment in moments) / len(moments)
    largest = max(moments, key=lambda moment: moment.flops).inputs
    parts = [list(part) for _, part in groupby(moments, lambda m: (m.image_size, m.words, m.masked))]
    edges = [part[0].progress for part in parts[1:]]
    return (
        tuple(map(summarise, parts, [0.0, *edges], [*edges, 1.0])),
        mean,
        largest,
    )


def look(config: TrainConfig, model: Outline, steps: int, step: Step) -> Iterator[Moment]:
    """What holds at up to `SAMPLED` steps, evenly spread over the run."""
    masker: Masker = build_method(config, "masking")
    wants = wants_of(made_whole(build_method(config, "loss")))
    texts = 1 + len([name for name in wants if name in COMPANIONS])
    count = min(steps, SAMPLED)
    views = config.train.views
    tail = round(steps * (1 - config.train.unmasked_share))
    for number in range(count):
        now = number * steps // count
        size, words = sizes_at(config, model, now, steps)
        masked = now < tail and config.masking["name"] != "none"
        inputs = inputs_at(masker, model, (size, words, views), now / steps if masked else None)
        seen = (size // model.image.patch) ** 2 if {*wants} & {*TEACHER} else 0
        inputs = replace(inputs, texts=texts, teacher=seen)
        yield Moment(now / steps, size, words, masked, inputs, pair_flops(model, inputs, step))


def sizes_at(config: TrainConfig, model: Outline, step: int, steps: int) -> tuple[int, int]:
    """Side of the image in pixels and text tokens at a step."""
    stage = stage_at(config, step, steps)
    return stage.image_size or model.image_size, min(
        stage.text_tokens or model.context_length, model.context_length
    )


def inputs_at(masker: Masker, model: Outline, sizes: tuple[int, int, int], progress: float | None) -> Inputs:
    """One pair of the sizes (pixels, words, views), under the mask of `progress` or under none."""
    side, words, views = sizes[0] // model.image.patch, *sizes[1:]
    if progress is None:
        return Inputs(side**2, side**2, words, views)
    kept = masker.kept(side**2, progress)
    embedded = kept if isinstance(masker, Resizing) else side**2
    seen = round(side * getattr(masker, "resolution", 1.0)) if isinstance(masker, Guided) else 0
    return Inputs(embedded, kept, words, views, guide=seen**2)


def summarise(part: list[Moment], start: float, stop: float) -> Stretch:
    """One stretch from its moments."""
    first, kept = part[0], [int(moment.inputs.kept) for moment in part]
    patches = max(int(moment.inputs.patches) for moment in part)
    flops = sum(moment.flops for moment in part) / len(part)
    counts = (min(kept), sum(kept) / len(kept), max(kept))
    return Stretch(
        start, stop, first.image_size, patches, counts, first.words, first.inputs.views, first.masked, flops
    )
