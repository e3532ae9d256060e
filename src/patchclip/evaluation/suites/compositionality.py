"""Compositionality: which of several captions of nearly the same words belongs to an image."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from patchclip.data.negatives import KINDS, negatives
from patchclip.data.sets import Benchmark, Choice, Retrieval, Selection
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import _blind, _choices
from patchclip.evaluation.embedder import Embedder, EncodedImages
from patchclip.evaluation.result import Result, Samples
from patchclip.registry import closest

logger = logging.getLogger(__name__)

TASK = "image_caption_selection"
FAILURES, SUCCESSES = 6, 2
LEAST = 10
"""Generated questions of a kind below which a score would say nothing."""

HELD = 1 << 24
"""Numbers of embeddings that are gathered at a time."""


@dataclass(frozen=True)
class CompositionalitySuite:
    """Which of several captions of nearly the same words belongs to an image: SugarCrepe, Winoground, ARO.

    Metrics: `text_acc` (every image finds its caption), `image_acc` (every caption finds its image; absent
    for one image, where it is always 1) and `acc` (both). For Winoground these are its text, image and group
    score; for one image `acc` = `text_acc`. `macro_text_acc`, only for questions with groups: mean of
    `text_acc` over ARO's relations or pairs of attributes, the figure of its paper.
    Source: Thrush et al., "Winoground", CVPR 2022, arXiv:2204.03162; Hsieh et al., "SugarCrepe", NeurIPS
        2023, arXiv:2306.14610; Yuksekgonul et al., ARO, ICLR 2023, arXiv:2210.01936; names of the metrics:
        CLIP_benchmark 1.6, `image_caption_selection`.
    Differs: ties are wrong. clip_benchmark takes the first of equal cosines, which is the right caption in
        its SugarCrepe: a collapsed model gets 1.0 there. ARO's COCO-Order and Flickr30k-Order are absent.

    Args:
        generated: whether captioned sets that bring no such questions get some by rule (data/negatives.py).
        kinds: of questions that are asked ("swap_obj"), none for all.
        most: generated questions of a kind and set.
        seed: of generated questions.

    Raises:
        ConfigError: `most` is below 1.
    """

    generated: bool = True
    kinds: tuple[str, ...] = ()
    most: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"most={self.most} must be at least 1: generated questions of a kind")

    def results(self, embedder: Embedder, sets: Sequence[Benchmark]) -> Iterator[Result]:
        """One result for each kind of each set.

        Raises:
            ConfigError: a kind that neither the sets nor the generator have.
            DataError: a question names an image that its set does not have.
        """
        given = [benchmark for benchmark in sets if isinstance(benchmark, Selection)]
        known = {*KINDS, *(selection.kind for selection in given)} - {""}
        for kind in self.kinds:
            if kind not in known:
                raise ConfigError(f"there is no kind of questions {kind!r}; {closest(kind, known)}")
        for selection in given:
            if not self.kinds or selection.kind in self.kinds:
                yield from _results(embedder, selection, "")
        if self.generated:
            bring = {_set_name(selection) for selection in given}
            for benchmark in sets:
                if isinstance(benchmark, Retrieval) and benchmark.name not in bring:
                    yield from self._generated(embedder, benchmark)

    def _generated(self, embedder: Embedder, benchmark: Retrieval) -> Iterator[Result]:
        kinds = [kind for kind in KINDS if not self.kinds or kind in self.kinds]
        note = "; false captions are made by rule from the set's own captions"
        for selection in negatives(benchmark, kinds, self.seed, self.most):
            if len(selection) < min(LEAST, self.most):
                logger.info("%s is left out: %d questions are too few", selection.name, len(selection))
                continue
            yield from _results(embedder, selection, note)


def _set_name(selection: Selection) -> str:
    return selection.name.rpartition("/")[0] if selection.kind else selection.name


def _results(embedder: Embedder, selection: Selection, note: str) -> Iterator[Result]:
    """The result of one kind; none, with a warning, where not one of its questions can be asked."""
    _check(selection)
    encoded = embedder.images(selection.images, _set_name(selection))
    readable = {image: row for row, image in enumerate(encoded.indices.tolist())}
    choices = [each for each in selection.choices if all(image in readable for image in each.images)]
    if not choices:
        logger.warning("%s is left out: none of its questions has a readable image", selection.name)
        return
    rows = torch.tensor([[readable[image] for image in choice.images] for choice in choices])
    cosines = _cosines(embedder, encoded.embeddings, rows, choices)
    yield _result(selection, choices, cosines, encoded, note)


def _check(selection: Selection) -> None:
    count = len(selection.images)
    sizes = {(len(choice.images), len(choice.captions)) for choice in selection.choices}
    wrong = [size for size in sizes if size[0] < 1 or size[1] < 2]
    if len(sizes) > 1 or wrong:
        raise DataError(
            f"{selection.name}: its questions must all have the same numbers of images and captions, at "
            f"least 1 and 2, got {sorted(sizes)}"
        )
    outside = next((i for choice in selection.choices for i in choice.images if not 0 <= i < count), None)
    if outside is not None:
        raise DataError(f"{selection.name}: image {outside} must be in [0, {count - 1}]: its set has {count}")


def _cosines(
    embedder: Embedder, images: Float[Tensor, "b e"], rows: Int64[Tensor, "q i"], choices: Sequence[Choice]
) -> Float[Tensor, "q i c"]:
    """Cosines of the images and captions of each question, a block of questions at a time."""
    texts = embedder.texts([caption for choice in choices for caption in choice.captions])
    texts = texts.unflatten(0, (len(choices), -1))  # q c e
    block = max(1, HELD // (texts.shape[1] * texts.shape[2]))
    parts = []
    for start in range(0, len(choices), block):
        seen = images[rows[start : start + block]].to(embedder.device)  # q i e
        read = texts[start : start + block].to(embedder.device)
        parts.append((seen @ read.mT).cpu())
    return torch.cat(parts)


def _result(
    selection: Selection, choices: Sequence[Choice], cosines: Tensor, encoded: EncodedImages, note: str
) -> Result:
    images, captions = cosines.shape[1:]
    found, theirs = _scores(_choices.outcomes(cosines)), _scores(_choices.first_of_largest(cosines))
    chance = _choices.chance(images, captions)
    metrics = {name: _mean(right) for name, right in found.items() if name in chance or name == "acc"}
    loose = {name: _mean(right) for name, right in theirs.items()}
    group = torch.tensor([choice.images[0] for choice in choices])
    samples = {name: Samples(found[name].float(), group) for name in metrics}
    if (macro := _choices.macro(choices, found["text_acc"])) is not None:
        metrics["macro_text_acc"], chance["macro_text_acc"] = macro, chance["text_acc"]
    used = {image for choice in selection.choices for image in choice.images}
    return Result(
        dataset=selection.name,
        task=TASK,
        metrics=metrics,
        chance=chance,
        images=len({image for choice in choices for image in choice.images}),
        captions=len(choices) * captions,
        bad=tuple(each for each in encoded.bad if int(each.key.rpartition("/")[2]) in used),
        clip_benchmark={name: value for name, value in loose.items() if value != metrics.get(name)},
        protocol=_protocol(images, captions) + note,
        samples=samples,
        details={
            "questions": len(choices),
            "left_out": len(selection) - len(choices),
            "tied": int((theirs["acc"] & ~found["acc"]).sum()),
            **_blind_details(choices),
            "failing": _choices.examples(choices, cosines, ~found["acc"], FAILURES),
            "right": _choices.examples(choices, cosines, found["acc"], SUCCESSES),
        },
    )


def _scores(outcomes: _choices.Outcomes) -> dict[str, Tensor]:
    """Outcomes by clip_benchmark's names."""
    return {"image_acc": outcomes.image, "text_acc": outcomes.text, "acc": outcomes.both}


def _mean(right: Tensor) -> float:
    return int(right.sum()) / len(right)


def _protocol(images: int, captions: int) -> str:
    if images == 1:
        return (
            f"the true one of {captions} captions must be strictly closest to the image; image_acc is left "
            "out: with one image it is 1 for every model"
        )
    return f"{images} images and {captions} captions: each must be strictly closest to its own"


def _blind_details(choices: Sequence[Choice]) -> dict[str, Any]:
    levels = _blind.blind_levels(choices)
    best = levels.get("best")
    captions = len(choices[0].captions)
    solved = isinstance(best, float) and _blind.is_solved(best, len(choices), captions)
    return {"blind": levels, "solved_blind": solved}
