"""Adaptation to the classes of a set: on embeddings, or of the towers."""

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from patchclip import spec
from patchclip.adapt.shots import ImageShots
from patchclip.data.sets import Classification
from patchclip.engine.adapting.draws import Draw, Source, draw, open_source
from patchclip.engine.adapting.judging import Answers, answers, changed, class_rows, gain_interval
from patchclip.engine.adapting.result import Adaptation, Row
from patchclip.engine.adapting.settings import ADAPTER, Settings
from patchclip.evaluation._metrics import COSINE_TIE
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.probe.logistic import fit_with_search

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seed:
    """One seed's outcome: answers on the test images, what is kept of the fit, and what to tell of it."""

    answers: Answers
    fitted: Any
    told: dict[str, Any]


def adapt_classes(
    embedder: Embedder, benchmark: Classification, method: str, kind: str, settings: Settings
) -> tuple[Adaptation, Any]:
    """Runs a method on every draw of a set's training images.

    Args:
        embedder: of the model.
        benchmark: the test split.
        method: NAME or NAME:key=value;key=value.
        kind: of it, "adapter" or "towers".
        settings: shots, seeds, classes and views.

    Returns:
        The outcome, and what the first seed fitted: the adapter, or the model.

    Raises:
        DataError: as `open_source`, or images that the method cannot learn from.
    """
    source = open_source(embedder, benchmark, settings)
    texts = embedder.classes(benchmark).to(embedder.device)
    groups = [range(source.base)]
    if source.base < len(texts):
        groups.append(range(source.base, len(texts)))
    test = source.splits.test
    before = answers(lambda x: x @ texts.T, test.features, test.labels, groups, COSINE_TIE)
    fit: Callable[[Draw, int], Seed] = (
        _Adapter(embedder, source, texts, method, groups)
        if kind == ADAPTER
        else _Towers(embedder, source, method, groups)
    )
    seeds: list[Seed] = []
    probes: list[Answers | None] = []
    for seed in settings.draws:
        drawn = draw(embedder, source, settings, seed, chooses=kind == ADAPTER)
        found = fit(drawn, seed)
        seeds.append(replace(found, fitted=None) if seeds else found)
        probes.append(_probe(source, drawn))
        logger.info("%s, seed %d: %s", method, seed, _words(seeds[-1], before))
    return _outcome(embedder, source, groups, (before, seeds, probes), (kind, method, settings)), seeds[
        0
    ].fitted


@dataclass(frozen=True)
class _Adapter:
    """Fits an adapter on embeddings."""

    embedder: Embedder
    source: Source
    texts: Tensor
    method: str
    groups: list[range]

    def __call__(self, drawn: Draw, seed: int) -> Seed:
        made = spec.build("adapt", self.method)
        chosen = None if drawn.validation is None else (drawn.validation.features, drawn.validation.labels)
        started = time.perf_counter()
        train = drawn.train
        fitted = made.fit(train.features, train.labels, self.texts, self.embedder.scale, chosen)
        told = {"seed": seed, "images": len(drawn.numbers), "seconds": time.perf_counter() - started}
        told["validation_images"] = 0 if chosen is None else len(chosen[1])
        scalars = {name: float(value) for name, value in fitted.state_dict().items() if value.ndim == 0}
        test = self.source.splits.test
        found = answers(fitted.decision_function, test.features, test.labels, self.groups)
        return Seed(found, fitted, told | scalars)


@dataclass(frozen=True)
class _Towers:
    """Trains a copy of the model, and asks it zero-shot."""

    embedder: Embedder
    source: Source
    method: str
    groups: list[range]

    def __call__(self, drawn: Draw, seed: int) -> Seed:
        made, encoder = spec.build("adapt", self.method), copy.copy(self.embedder.encoder)
        whole: Any = encoder
        whole.model = copy.deepcopy(whole.model)
        whole.architecture = replace(whole.architecture, model=whole.model)
        benchmark = self.source.splits.benchmark
        prompts = [benchmark.prompts(label)[0] for label in range(self.source.base)]
        shots = ImageShots(self.source.train.images, drawn.labels, encoder.preprocess, drawn.numbers)
        generator = torch.Generator().manual_seed(seed)
        started = time.perf_counter()
        made.fit(whole.model, shots, encoder.tokenizer(prompts).to(encoder.device), generator)
        told = {"seed": seed, "images": len(drawn.numbers), "seconds": time.perf_counter() - started}
        whole.model.eval()
        kept = self.embedder.encoding
        asked = Embedder(encoder, Encoding(kept.batch_size, None, kept.threads, kept.on_progress))
        images = asked.images(benchmark.images, f"{benchmark.name}/test").embeddings.to(encoder.device)
        texts = asked.classes(benchmark).to(encoder.device)
        labels = self.source.splits.test.labels
        return Seed(
            answers(lambda x: x @ texts.T, images, labels, self.groups, COSINE_TIE),
            whole.architecture,
            told,
        )


def _probe(source: Source, drawn: Draw) -> Answers | None:
    """Logistic regression on the same images, None where none is left to choose its strength on."""
    if drawn.validation is None:
        return None
    fitted = fit_with_search(drawn.train, drawn.validation, source.base, refit=False).classifier
    test = source.splits.test

    def scores(x: Tensor) -> Tensor:
        return torch.addmm(fitted.bias, x.to(fitted.weight), fitted.weight.T)

    rows = (test.labels < source.base).nonzero()[:, 0]
    found = answers(scores, test.features[rows], test.labels[rows], [range(source.base)])
    hits = torch.zeros(len(test), dtype=torch.bool)
    hits[rows.cpu()] = found.hits
    return Answers(hits, hits.long())


def _outcome(
    embedder: Embedder,
    source: Source,
    groups: list[range],
    found: tuple[Answers, list[Seed], list[Answers | None]],
    asked: tuple[str, str, Settings],
) -> Adaptation:
    (before, seeds, probes), (kind, method, settings) = found, asked
    after = [each.answers for each in seeds]
    benchmark, labels = source.splits.benchmark, source.splits.test.labels.cpu()
    rows = []
    names = ("accuracy",) if len(groups) == 1 else ("accuracy, base classes", "accuracy, new classes")
    for i, (name, group) in enumerate(zip(names, groups, strict=True)):
        own = (labels >= group.start) & (labels < group.stop)
        if not own.any():
            continue
        known = [each for each in probes if each is not None and not i]
        rows.append(
            Row(
                measure=name,
                zero_shot=_shares([before] * len(after), own),
                adapted=_shares(after, own),
                probe=_shares(known if len(known) == len(after) else [], own),
                interval=gain_interval(before, after, own),
            )
        )
    if len(rows) == 2:
        sides = [(row.zero_shot, row.adapted) for row in rows]
        means = [tuple(map(_harmonic, a, b)) for a, b in zip(*sides, strict=True)]
        rows.append(Row("harmonic mean of the two", means[0], means[1]))
    return Adaptation(
        kind=kind,
        method=method,
        model=embedder.encoder.name,
        dataset=benchmark.name,
        settings=settings.to_json(kind),
        rows=tuple(rows),
        seeds=tuple(each.told for each in seeds),
        classes=tuple(class_rows(before, after, labels, benchmark.classnames)),
        changed=tuple(changed(before, after, labels, source.splits.indices)),
        protocol=_protocol(settings, source, kind, probes[0] is not None),
        fingerprint=benchmark.images.fingerprint,
        bad=tuple(asdict(each) for each in source.splits.bad),
    )


def _shares(found: list[Answers], rows: Tensor) -> tuple[float, ...]:
    return tuple(float(each.hits[rows].double().mean()) for each in found)


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _protocol(settings: Settings, source: Source, kind: str, chosen: bool) -> str:
    """How it was measured; `chosen` says whether there were images to choose settings on."""
    shots = f"{settings.shots} training images a class" if settings.shots else "all training images"
    views = f", {settings.views} random crops of each" if settings.views else ""
    choice = _choice(settings, source, kind) if chosen else "no images left to choose settings on"
    if kind != ADAPTER and not chosen:
        choice = "no images left for a linear probe to choose its strength on"
    apart = source.base < len(source.splits.benchmark.classnames)
    groups = "; base and new classes are asked within each" if apart else ""
    seeds = f"seeds {settings.draws[0]} to {settings.draws[-1]}"
    return f"{shots}{views}, {seeds}; {choice}{groups}; ties are wrong"


def _choice(settings: Settings, source: Source, kind: str) -> str:
    """What was chosen on which images."""
    what = "settings" if kind == ADAPTER else "the linear probe's strength alone"
    if source.splits.validation is not None:
        return f"{what} chosen on the val split"
    if settings.shots:
        return f"{what} chosen on other training images"
    apart = "is not learned from" if kind == ADAPTER else "the probe does not learn from"
    return f"{what} chosen on a tenth of them, which {apart}"


def _words(seed: Seed, before: Answers) -> str:
    figures = [float(each.hits.double().mean()) * 100 for each in (before, seed.answers)]
    return f"{figures[0]:.1f} % -> {figures[1]:.1f} % in {seed.told['seconds']:.2f} s"
