"""Linear probe: what a linear classifier makes of the image embeddings, trained on a train split."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from patchclip.data.sets import Benchmark, Classification
from patchclip.errors import ConfigError
from patchclip.evaluation._metrics import class_recall, classification_chance
from patchclip.evaluation._zeroshot import worst_classes
from patchclip.evaluation.embedder import Embedder
from patchclip.evaluation.probe.examples import Examples, draw_shots, hold_out, scarcest
from patchclip.evaluation.probe.logistic import Fitted, fit_with_search
from patchclip.evaluation.probe.outcome import Outcome, Splits, embed_splits, samples, tested
from patchclip.evaluation.probe.sgd import EPOCHS, fit_as_clip_benchmark
from patchclip.evaluation.result import Result

logger = logging.getLogger(__name__)

TASK = "linear_probe"
SOLVERS = {"lbfgs": "C", "sgd": "weight_decay"}
"""Solver -> what it chooses on a validation split."""


@dataclass(frozen=True)
class LinearProbeSuite:
    """Accuracy of a linear classifier on image embeddings, trained with all images or k of each class.

    Metrics: `lp_acc1`, `lp_acc5` (absent below 5 classes), `lp_mean_per_class_recall`; beside them, as
    clip_benchmark has them, `fewshot_k` (-1 for all images), `seed`, `normalized`, and `C` or `weight_decay`.
    Source: Radford et al. 2021, arXiv:2103.00020, appendix A.3 (lbfgs); clip_benchmark 1.6.2,
        metrics/linear_probe.py (sgd); min(k, 4) validation images of a class for k-shot: released code of
        Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022, arXiv:2109.01134.
    Differs: from the paper, the embeddings are those after the projection, unit length; a set without a
        validation split gives a tenth of every class for the choice of C, for k-shot other training images.
        From clip_benchmark: any device; ties are wrong; acc5 from 5 classes on, there from 6; classes are
        those with names, there those up to the largest training label.

    Args:
        solver: "lbfgs", logistic regression with the best C; "sgd", clip_benchmark's training.
        shots: images of each class, one number or several, 0 for all; none is the same as 0.
        seeds: draws that a few-shot figure is the mean of, at least 1.
        seed: of the first draw; of the held-out tenth; of the layer's first weights and order (sgd).

    Raises:
        ConfigError: an unknown solver, negative or repeated shots, or no seed.
    """

    solver: str = "lbfgs"
    shots: tuple[int, ...] | int = ()
    seeds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ConfigError(f"solver={self.solver!r} must be one of {', '.join(SOLVERS)}")
        if min(self._shots) < 0 or len(set(self._shots)) < len(self._shots):
            raise ConfigError(f"shots={self.shots} must be different numbers of at least 0; 0 is all images")
        if self.seeds < 1:
            raise ConfigError(
                f"seeds={self.seeds} must be at least 1: a few-shot figure is a mean over seeds"
            )

    @property
    def _shots(self) -> tuple[int, ...]:
        """Every k that is asked for, 0 for all images."""
        return (self.shots,) if isinstance(self.shots, int) else self.shots or (0,)

    def results(self, embedder: Embedder, sets: Sequence[Benchmark]) -> Iterator[Result]:
        """For each classification set with a train split, a result for all images and for each k.

        Raises:
            DataError: a split without readable images, a label outside the class names, training images of
                one class alone, or embeddings that are not finite.
        """
        for benchmark in sets:
            if not isinstance(benchmark, Classification) or len(benchmark.classnames) < 2:
                continue
            splits = embed_splits(embedder, benchmark)
            if splits is None:
                logger.info("%s: no linear probe: it has no train split", benchmark.name)
                continue
            for k in self._shots:
                outcomes = self._outcomes(splits, k)
                if outcomes:
                    yield self._result(splits, k, outcomes)

    def _outcomes(self, splits: Splits, k: int) -> list[Outcome]:
        """The probes trained for one k, none where there are too few images."""
        name, names = splits.train.name, splits.benchmark.classnames
        if k:
            label, images = scarcest(splits.train.labels)
            if images < k:
                tell = (name, k, names[label], images)
                logger.info("%s: no %d-shot probe: class %r has %d training images", *tell)
                return []
        outcomes = []
        for seed in range(self.seed, self.seed + (self.seeds if k else 1)):
            fitted = self._fit(splits, k, seed)
            if fitted is None:
                logger.info("%s: no probe: no image is left to choose C on; add a val split", name)
                return []
            outcomes.append(tested(*fitted, seed, splits))
        return outcomes

    def _fit(self, splits: Splits, k: int, seed: int) -> tuple[Fitted, str, Tensor] | None:
        """A probe, what its C was chosen on, the labels it learned from; None without images to choose on."""
        generator = torch.Generator().manual_seed(seed)
        classes = len(splits.benchmark.classnames)
        train, validation, chosen_on = splits.train, splits.validation, "chosen on the val split"
        if k:
            train, others = draw_shots(train, k, generator)
        if self.solver == "sgd":
            fitted = fit_as_clip_benchmark(train, validation, classes, refit=not k, seed=seed)
            chosen_on = chosen_on if validation else "0 without a val split"
            return fitted, chosen_on, _learned(train, None if k else validation)
        if validation is None and k:
            validation, chosen_on = others, "chosen on other train images"
        elif validation is None:
            held = hold_out(train, generator)
            if held is None:
                return None
            (train, validation), chosen_on = held, "chosen on a tenth of the train split"
        if not len(validation):
            return None
        fitted = fit_with_search(train, validation, classes, refit=not k)
        return fitted, chosen_on, _learned(train, None if k else validation)

    def _result(self, splits: Splits, k: int, outcomes: list[Outcome]) -> Result:
        count = len(splits.benchmark.classnames)
        means = {name: fmean([each.metrics[name] for each in outcomes]) for name in outcomes[0].metrics}
        notes = {"fewshot_k": float(k or -1), "seed": float(self.seed), "normalized": 1.0}
        if not k:
            notes[SOLVERS[self.solver]] = outcomes[0].fitted.strength
        if self.solver == "sgd":
            notes["epochs"] = float(EPOCHS)
        each_k = "all training images"
        if k:
            each_k = f"{k} image{'s' * (k > 1)} a class, seeds {self.seed} to {self.seed + self.seeds - 1}"
        fit = "logistic regression (L-BFGS)" if self.solver == "lbfgs" else "AdamW, 10 epochs"
        chosen = f"{SOLVERS[self.solver]} {outcomes[0].chosen_on}"
        return Result(
            dataset=splits.benchmark.name,
            task=f"{TASK}_{k}shot" if k else TASK,
            metrics=means | notes,
            chance={name: classification_chance(count, 5 if name == "lp_acc5" else 1) for name in means},
            images=len(splits.test),
            classes=count,
            bad=splits.bad,
            clip_benchmark=self._theirs(outcomes, means["lp_acc1"]),
            protocol=f"linear probe on unit-length embeddings: {fit}, {each_k}, {chosen}",
            samples=samples(splits, outcomes),
            details=self._details(splits, outcomes),
        )

    def _theirs(self, outcomes: list[Outcome], ours: float) -> dict[str, float]:
        """What clip_benchmark gives for the same scores: the first of tied classes is the answer there."""
        theirs = fmean([each.loose for each in outcomes])
        return {"lp_acc1": theirs} if self.solver == "sgd" and abs(theirs - ours) > 1e-12 else {}

    def _details(self, splits: Splits, outcomes: list[Outcome]) -> dict[str, Any]:
        """What the report shows beside the figures."""
        first, names = outcomes[0], splits.benchmark.classnames
        labels = splits.test.labels.cpu()
        strength = SOLVERS[self.solver]
        details: dict[str, Any] = {
            "solver": self.solver,
            "chosen_on": first.chosen_on,
            "train_images": len(first.learned),
            "unseen_classes": len(names) - len(first.learned.unique()),
            "sweep": [list(pair) for pair in first.fitted.sweep],
            "worst_classes": worst_classes(names, class_recall(first.ranks, labels), labels, first.guesses),
        }
        if len(outcomes) > 1:
            rows = [{"seed": o.seed, strength: o.fitted.strength, **o.metrics} for o in outcomes]
            details["seeds"] = rows
            details["std"] = {name: stdev([row[name] for row in rows]) for name in first.metrics}
        return details


def _learned(train: Examples, validation: Examples | None) -> Tensor:
    """Labels of all images that a probe learns from: its train split, and what it is fitted again on."""
    return train.labels if validation is None else torch.cat([train.labels, validation.labels])
