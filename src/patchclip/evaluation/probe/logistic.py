"""Logistic regression on embeddings, and the search for its regularisation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.evaluation._metrics import BLOCK_SCORES, label_ranks
from patchclip.evaluation.probe.examples import Examples, check_labels, check_training
from patchclip.evaluation.probe.lbfgs import Point, minimise

GRID = 97
COARSE = 16
FLAT = 1e-12
"""Share of the mean square of the features below which a direction's variance is rounding, not content."""


@dataclass(frozen=True)
class Linear:
    """A linear classifier: scores = features @ weight.T + bias; a bias of -inf is a class it never saw."""

    weight: Float[Tensor, "c e"]
    bias: Float[Tensor, "c"]

    def blocks(self, features: Float[Tensor, "n e"]) -> Iterator[tuple[slice, Float[Tensor, "b c"]]]:
        """Rows and their scores, a block at a time, on the classifier's device and in its precision."""
        rows = max(1, BLOCK_SCORES // len(self.bias))
        for start in range(0, len(features), rows):
            part = features[start : start + rows].to(self.weight)
            yield slice(start, start + len(part)), torch.addmm(self.bias, part, self.weight.T)


@dataclass(frozen=True)
class Fitted:
    """A classifier, the strength of its regularisation, and each one tried with its validation accuracy."""

    classifier: Linear
    strength: float
    sweep: tuple[tuple[float, float], ...]


class LogisticRegression:
    """Multinomial logistic regression with a squared penalty on the weights.

    Formula: min over W, b of 1/2 |W|^2 + C * sum_i CE(softmax(W x_i + b), y_i); b is not penalised. For two
    classes the penalty is |W|^2, which makes it the binary logistic regression with one weight vector.
    Source: Radford et al. 2021, arXiv:2103.00020, appendix A.3: scikit-learn's L-BFGS, at most 1,000 steps.
    Differs: it stops where no entry of the gradient of the mean loss is above 1e-6, or above 1e-6 of the loss
        with its penalty where that is below 1: with a large C both may be tiny. scikit-learn stops by default
        at 1e-4, which on unit-length embeddings leaves a large C far from its optimum. For the biases the
        limit is times the spread of the scores where that is below 1: with a small C all scores are nearly
        equal, and an error of a bias would decide. The features are centred and turned into their principal
        axes, and the weights scaled by them: the same optimum in fewer steps. Directions in which features
        differ by rounding alone take no part. A fit may also end at the limit of steps, or where no step goes
        down in float32.

    Classes without images take no part either; they are never predicted.

    Args:
        examples: to learn from; products with their features are float32 on their device.
        classes: c, labels are in [0, c).
        max_iterations: steps of a fit at most.
        tolerance: largest entry of the gradient at which a fit ends, as a share of a loss below 1, > 0.

    Raises:
        DataError: no image, a label outside the classes, features that are not finite, or fewer than two
            classes with images.
    """

    def __init__(
        self, examples: Examples, classes: int, max_iterations: int = 1000, tolerance: float = 1e-6
    ) -> None:
        check_training(examples, classes)
        self.classes, self.max_iterations, self.tolerance = classes, max_iterations, tolerance
        self.steps = 0
        features, labels = examples.features, examples.labels
        present, target = labels.unique(return_inverse=True)
        self._present, self._target = present, target
        features = features.float()
        self._mean = features.mean(0)
        self._axes, self._rotated = _turned(features - self._mean, self._mean)
        self._variance = self._rotated.square().mean(0)
        self._wide = torch.float32 if features.device.type == "mps" else torch.float64

    def fit(self, c: float, start: Linear | None = None) -> Linear:
        """The classifier for one C.

        Args:
            c: inverse strength of the penalty, > 0.
            start: a classifier of the same classes to begin at, for instance that of the next smaller C.

        Raises:
            ConfigError: c is not a positive, finite number.
        """
        if not 0 < c < float("inf"):
            raise ConfigError(f"C={c} must be positive and finite: a large C is a weak penalty")
        count, images = len(self._present), len(self._target)
        penalty = (2 if count == 2 else 1) / (c * images)
        spread = (1 - 1 / count) / count  # p (1 - p) of an undecided classifier
        weight_scale = (penalty + spread * self._variance).rsqrt()
        scale = torch.cat([weight_scale, weight_scale.new_full((1,), spread**-0.5)]).to(self._wide)

        def function(point: Tensor) -> tuple[float, Tensor]:
            value, gradient = self._loss(point * scale, penalty)
            return value, gradient * scale

        def done(found: Point) -> bool:
            point, value, gradient = found
            slopes = (gradient / scale).abs()
            if len(self._variance):
                apart = (point * scale)[:, :-1].square() @ self._variance.to(self._wide)  # c
                slopes[:, -1] /= apart.max().sqrt().clamp(1e-8, 1)
            return float(slopes.max()) <= self.tolerance * min(1.0, value)

        begin = self._inward(start) / scale
        point, self.steps = minimise(function, begin, done, self.max_iterations)
        return self._outward(point * scale)

    def _loss(self, weights: Tensor, penalty: float) -> tuple[float, Tensor]:
        """Mean loss with the penalty, and its gradient, at [weights | bias] in the rotated space."""
        narrow = weights[:, :-1].float()
        total = weights.new_zeros(())
        gradient = torch.zeros_like(weights)
        rows = max(1, BLOCK_SCORES // len(self._present))
        for start in range(0, len(self._target), rows):
            part, target = self._rotated[start : start + rows], self._target[start : start + rows, None]
            scores = (part @ narrow.T).to(self._wide) + weights[:, -1]  # b c
            normaliser = scores.logsumexp(1, keepdim=True)
            total += (normaliser - scores.gather(1, target)).sum()
            error = (scores - normaliser).exp_()
            error.scatter_add_(1, target, error.new_full((1, 1), -1.0).expand_as(target))
            gradient[:, :-1] += error.float().T @ part
            gradient[:, -1] += error.sum(0)
        gradient /= len(self._target)
        gradient[:, :-1] += penalty * weights[:, :-1]
        return float(total / len(self._target) + penalty / 2 * weights[:, :-1].square().sum()), gradient

    def _inward(self, start: Linear | None) -> Tensor:
        """A classifier's [weights | bias] in the rotated space, zeros without one."""
        if start is None:
            shape = (len(self._present), len(self._variance) + 1)
            return torch.zeros(shape, dtype=self._wide, device=self._rotated.device)
        weight = start.weight[self._present].to(self._wide)
        bias = start.bias[self._present].to(self._wide).nan_to_num(neginf=0.0)
        bias = bias + weight @ self._mean.to(self._wide)
        return torch.cat([weight @ self._axes.to(self._wide), bias[:, None]], dim=1)

    def _outward(self, weights: Tensor) -> Linear:
        turned = weights[:, :-1] @ self._axes.T.to(self._wide)  # c e
        weight = turned.new_zeros(self.classes, turned.shape[1])
        bias = turned.new_full((self.classes,), -torch.inf)
        weight[self._present] = turned
        bias[self._present] = weights[:, -1] - turned @ self._mean.to(self._wide)
        return Linear(weight, bias)


def fit_with_search(
    train: Examples, validation: Examples, classes: int, refit: bool, max_iterations: int = 1000
) -> Fitted:
    """Logistic regression with the C that is best on a validation split.

    Source: Radford et al. 2021, arXiv:2103.00020, appendix A.3: C from 1e-6 to 1e6, in the end 8
        steps a decade.
    Differs: every fit begins at the classifier of the nearest C; of equal accuracies the smaller C is taken.

    Args:
        train: to fit with.
        validation: to choose C on.
        classes: c.
        refit: whether the classifier is fitted again on both.
        max_iterations: steps of a fit at most.

    Raises:
        DataError: as `LogisticRegression`; no validation image, or one with a label outside the classes.
    """
    check_labels(validation, classes)
    problem = LogisticRegression(train, classes, max_iterations)
    fits: dict[int, Linear] = {}

    def score(step: int) -> float:
        near = fits[min(fits, key=lambda other: abs(other - step))] if fits else None
        fits[step] = problem.fit(_strength(step), near)
        return accuracy(fits[step], validation)

    peak, tried = search(score)
    chosen = fits[peak]
    if refit:
        both = LogisticRegression(train.and_also(validation), classes, max_iterations)
        chosen = both.fit(_strength(peak), chosen)
    sweep = tuple((_strength(step), tried[step]) for step in sorted(tried))
    return Fitted(chosen, _strength(peak), sweep)


def _strength(step: int) -> float:
    """C of a step: 1e-6 at 0, 1e6 at 96."""
    return float(10 ** (step / 8 - 6))


def search(score: Callable[[int], float]) -> tuple[int, dict[int, float]]:
    """The best of 97 logarithmic steps: every 16th of them, then 8, 4, 2 and 1 step around the peak.

    Source: Radford et al. 2021, arXiv:2103.00020, appendix A.3; the same grid in clip_benchmark 1.6.2.
    Of equal scores the lower step is taken.

    Args:
        score: of a step in [0, 96], higher is better; each step is asked for once.

    Returns:
        The best step and the scores of all steps tried.
    """
    tried: dict[int, float] = {}

    def best(steps: list[int]) -> int:
        for step in steps:
            if step not in tried:
                tried[step] = score(step)
        return max(steps, key=lambda step: tried[step])

    peak, span = best(list(range(0, GRID, COARSE))), COARSE // 2
    while span:
        peak = best([max(peak - span, 0), peak, min(peak + span, GRID - 1)])
        span //= 2
    return peak, tried


def accuracy(classifier: Linear, examples: Examples) -> float:
    """Share of the examples whose class alone scores best, in [0, 1]."""
    hits = 0
    for rows, scores in classifier.blocks(examples.features):
        hits += int((label_ranks(scores, examples.labels[rows]) == 1).sum())
    return hits / len(examples)


def _turned(
    centred: Float[Tensor, "n e"], mean: Float[Tensor, "e"]
) -> tuple[Float[Tensor, "e r"], Float[Tensor, "n r"]]:
    """Orthonormal directions in which the features spread by more than rounding, and the features there."""
    images, width = centred.shape
    on = torch.device("cpu") if centred.device.type == "mps" else centred.device
    if images < width:
        axes = torch.linalg.svd(centred.to(on).double(), full_matrices=False).Vh.T
    else:
        axes = torch.linalg.eigh((centred.T @ centred).to(on).double()).eigenvectors
    axes = axes.to(centred)
    turned = centred @ axes
    variance = turned.square().mean(0)
    kept = variance > FLAT * (variance.sum() + mean.square().sum())
    return axes[:, kept], turned[:, kept]
