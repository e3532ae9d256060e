"""The linear probe's logistic regression against scikit-learn, its search and its draws."""

import logging
from functools import partial
from math import inf, nan

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression as Reference
from torch import Tensor

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation.probe import logistic, sgd
from patchclip.evaluation.probe.examples import Examples, draw_shots, hold_out, scarcest
from patchclip.evaluation.probe.lbfgs import Point, minimise
from patchclip.evaluation.probe.logistic import LogisticRegression, accuracy, fit_with_search, search

from ._clusters import clusters


def objective(weight: Tensor, bias: Tensor, examples: Examples, c: float) -> float:
    scores = examples.features.double() @ weight.T + bias
    if len(bias) == 1:  # scikit-learn's binary form
        scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
    loss = F.cross_entropy(scores, examples.labels, reduction="sum")
    return float(0.5 * weight.square().sum() + c * loss)


def near(point: Point) -> bool:
    return float(point[2].abs().max()) < 1e-9


def never(point: Point) -> bool:
    return False


def test_minimise_finds_the_minimum_of_a_quadratic(seeded: torch.Generator) -> None:
    root = torch.randn(12, 12, generator=seeded, dtype=torch.float64)
    matrix, goal = root @ root.T + torch.eye(12), torch.randn(12, generator=seeded, dtype=torch.float64)

    def function(x: Tensor) -> tuple[float, Tensor]:
        return float(0.5 * (x - goal) @ matrix @ (x - goal)), matrix @ (x - goal)

    found, steps = minimise(function, torch.zeros(12), near, 200)
    assert found.numpy() == pytest.approx(goal.numpy(), abs=1e-8)
    assert steps < 100
    assert minimise(function, goal, near, 200)[1] == 0
    assert minimise(function, torch.zeros(12), never, 3)[1] == 3


def test_minimise_ends_where_nothing_is_lower() -> None:
    found, _ = minimise(lambda x: (nan, torch.full_like(x, nan)), torch.ones(2), never, 50)
    assert found.tolist() == [1, 1]
    flat, steps = minimise(lambda x: (1.0, torch.zeros_like(x)), torch.ones(2), never, 50)
    assert (flat.tolist(), steps) == ([1, 1], 0)


@pytest.mark.parametrize("c", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize("shape", [(240, 24, 5, 2.0), (240, 24, 2, 2.0), (40, 96, 5, 0.4)], ids=str)
def test_logistic_regression_equals_scikit_learn(shape: tuple[int, int, int, float], c: float) -> None:
    """Overlapping, binary, and separable data with fewer images than dimensions."""
    examples, fresh = clusters(*shape), clusters(*shape, seed=1)
    known = Reference(C=c, tol=1e-9, max_iter=10000).fit(examples.features.double(), examples.labels)
    found = LogisticRegression(examples, shape[2], tolerance=1e-8).fit(c)
    weight, bias = found.weight, found.bias
    if shape[2] == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    theirs = objective(torch.from_numpy(known.coef_), torch.from_numpy(known.intercept_), examples, c)
    assert objective(weight, bias, examples, c) == pytest.approx(theirs, rel=1e-6)
    scale = abs(known.coef_).max()
    assert (weight / scale).numpy() == pytest.approx(known.coef_ / scale, abs=2e-3)
    guesses = torch.cat([scores.argmax(1) for _, scores in found.blocks(fresh.features)])
    assert (guesses.numpy() == known.predict(fresh.features.double())).mean() >= 0.99


def test_a_strong_penalty_leaves_the_biases_exact() -> None:
    """scikit-learn stops before it has moved them, whatever its tolerance; the scores differ by 1e-6."""
    examples, c = clusters(240, 24, 5, 2.0).rows(torch.arange(240)[torch.arange(240) % 10 > 0]), 1e-6
    known = Reference(C=c, tol=1e-13, max_iter=10000).fit(examples.features.double(), examples.labels)
    found = LogisticRegression(examples, 5).fit(c)

    def slopes(weight: Tensor, bias: Tensor) -> tuple[float, float]:
        wrong = (examples.features.double() @ weight.T + bias).softmax(1) - F.one_hot(examples.labels)
        weights = wrong.T @ examples.features.double() / 216 + weight / (c * 216)
        return float(weights.abs().max()), float(wrong.mean(0).abs().max())

    ours = slopes(found.weight, found.bias)
    theirs = slopes(torch.from_numpy(known.coef_), torch.from_numpy(known.intercept_))
    assert ours[0] < 1e-6
    assert ours[1] < 1e-11 < theirs[1]


def test_separable_data_and_a_weak_penalty_end_before_the_limit() -> None:
    problem = LogisticRegression(clusters(60, 16, 3, 0.1), 3)
    found = problem.fit(1e6)
    assert 0 < problem.steps < 1000
    assert bool(found.weight.isfinite().all())
    assert accuracy(found, clusters(60, 16, 3, 0.1, seed=1)) == 1.0


@pytest.mark.parametrize("shape", [(400, 32, 6, 0.6), (40, 96, 5, 0.4)], ids=str)
def test_a_weak_penalty_on_separable_data_is_fitted_to_its_optimum(
    shape: tuple[int, int, int, float],
) -> None:
    """The loss at the optimum is near 1e-4: a gradient of 1e-6 is not small beside it."""
    examples, c = clusters(*shape), 1e6
    known = Reference(C=c, tol=1e-13, max_iter=20000).fit(examples.features.double(), examples.labels)
    theirs = objective(torch.from_numpy(known.coef_), torch.from_numpy(known.intercept_), examples, c)
    assert theirs / (c * len(examples)) < 2e-4
    found = LogisticRegression(examples, shape[2]).fit(c)
    assert objective(found.weight, found.bias, examples, c) <= theirs * (1 + 1e-4)


@pytest.mark.parametrize("c", [1e2, 1e3, 1e4])
def test_a_step_needs_little_more_than_one_look_at_the_loss(
    c: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that differ by float32 rounding must not send the line search into bisections."""
    looks: list[int] = []
    loss = LogisticRegression._loss

    def counted(self: LogisticRegression, weights: Tensor, penalty: float) -> tuple[float, Tensor]:
        looks.append(1)
        return loss(self, weights, penalty)

    monkeypatch.setattr(LogisticRegression, "_loss", counted)
    problem = LogisticRegression(clusters(170, 192, 18, 2.5), 18)
    problem.fit(c)
    assert 20 < problem.steps < 1000
    assert len(looks) < 1.2 * problem.steps + 2


def test_chunks_do_not_change_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = clusters(101, 12, 4, 1.0)
    whole = LogisticRegression(examples, 4).fit(10.0)
    monkeypatch.setattr(logistic, "BLOCK_SCORES", 40)
    parts = LogisticRegression(examples, 4).fit(10.0)
    assert parts.weight.numpy() == pytest.approx(whole.weight.numpy(), abs=1e-4)
    assert len(list(whole.blocks(examples.features))) == 11


def test_a_start_near_the_optimum_saves_steps_and_changes_nothing() -> None:
    problem = LogisticRegression(clusters(200, 16, 4, 1.5), 4)
    near = problem.fit(90.0)
    cold = problem.fit(100.0)
    steps = problem.steps
    warm = problem.fit(100.0, near)
    assert problem.steps < steps
    assert warm.weight.numpy() == pytest.approx(cold.weight.numpy(), abs=1e-2)
    problem.fit(100.0, cold)
    assert problem.steps == 0


def test_a_class_without_images_is_never_predicted() -> None:
    examples = clusters(60, 8, 3, 0.3)
    shifted = Examples("gap", examples.features, torch.tensor([0, 2, 5])[examples.labels])
    found = LogisticRegression(shifted, 6).fit(100.0)
    assert found.bias.isinf().tolist() == [False, True, False, True, True, False]
    assert accuracy(found, shifted) == 1.0
    assert accuracy(found, Examples("other", examples.features, torch.ones(60, dtype=torch.int64))) == 0.0
    plain = LogisticRegression(examples, 3).fit(100.0)
    assert found.weight[[0, 2, 5]].numpy() == pytest.approx(plain.weight.numpy(), abs=1e-6)
    again = LogisticRegression(shifted, 6).fit(100.0, found)
    assert again.weight.numpy() == pytest.approx(found.weight.numpy(), abs=1e-3)


@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_constant_features_give_the_most_frequent_class_at_best(
    noise: float, seeded: torch.Generator
) -> None:
    features = torch.full((60, 8), 8**-0.5) + noise * torch.randn(60, 8, generator=seeded)
    labels = torch.tensor([0, 1, 2, 2] * 15)
    found = LogisticRegression(Examples("same", features, labels), 3).fit(1e6)
    assert found.weight.abs().max() == 0
    assert found.bias.softmax(0).tolist() == pytest.approx([0.25, 0.25, 0.5], abs=1e-4)
    tied = LogisticRegression(Examples("same", features, torch.arange(60) % 3), 3).fit(1e6)
    assert accuracy(tied, Examples("same", features, torch.arange(60) % 3)) <= 1 / 3


def test_what_cannot_be_learned_is_refused() -> None:
    good = clusters(12, 4, 3, 0.1)
    broken = good.features.clone()
    broken[2, 1] = nan
    with pytest.raises(DataError, match="clusters: the embeddings of 1 of 12 training images are not finite"):
        LogisticRegression(Examples("clusters", broken, good.labels), 3)
    with pytest.raises(DataError, match="all 12 training images are of class 0"):
        LogisticRegression(Examples("one", good.features, torch.zeros(12, dtype=torch.int64)), 3)
    with pytest.raises(DataError, match=r"label 2 must be in \[0, 1\]"):
        LogisticRegression(good, 2)
    with pytest.raises(DataError, match="none: 0 images"):
        LogisticRegression(Examples("none", torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)), 3)
    for c in (0.0, -1.0, inf, nan):
        with pytest.raises(ConfigError, match="must be positive and finite"):
            LogisticRegression(good, 3).fit(c)


def test_an_empty_or_wrong_validation_set_is_refused() -> None:
    train, nothing = (
        clusters(12, 4, 3, 0.1),
        Examples("val", torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    )
    wrong = Examples("val", train.features, train.labels + 1)
    for fit in (partial(fit_with_search, refit=True), partial(sgd.fit_as_clip_benchmark, refit=True, seed=0)):
        with pytest.raises(DataError, match="val: 0 images: a linear probe needs some"):
            fit(train, nothing, 3)
        with pytest.raises(DataError, match=r"val: label 3 must be in \[0, 2\]"):
            fit(train, wrong, 3)


def test_search_halves_the_interval_around_the_peak() -> None:
    asked: list[int] = []

    def score(step: int) -> float:
        asked.append(step)
        return -abs(step - 37)

    peak, tried = search(score)
    assert peak == 37
    assert asked[:7] == [0, 16, 32, 48, 64, 80, 96]
    assert len(asked) == len(set(asked)) == len(tried) <= 15
    assert search(lambda step: 0.5)[0] == 0  # all equal: the lowest
    assert search(lambda step: float(step))[0] == 96


def test_the_best_c_is_found_and_the_probe_fitted_again_on_both() -> None:
    train, validation = clusters(150, 24, 3, 6.0), clusters(150, 24, 3, 6.0, seed=1)
    found = fit_with_search(train, validation, 3, refit=True)
    curve = dict(found.sweep)
    assert curve[found.strength] == max(curve.values()) > curve[1e6]
    assert min(curve) == pytest.approx(1e-6)
    both = LogisticRegression(train.and_also(validation), 3).fit(found.strength)
    assert found.classifier.weight.numpy() == pytest.approx(both.weight.numpy(), rel=1e-2, abs=1e-3)
    alone = fit_with_search(train, validation, 3, refit=False).classifier
    assert accuracy(alone, validation) == max(curve.values())


def test_hold_out_takes_a_tenth_of_every_class() -> None:
    labels = torch.tensor([0] * 40 + [1] * 2 + [2] + [3] * 26)
    numbered = Examples("x", torch.arange(69.0)[:, None], labels)
    drawn = hold_out(numbered, torch.Generator().manual_seed(0))
    assert drawn is not None
    train, held = drawn
    assert held.labels.bincount(minlength=4).tolist() == [4, 1, 0, 3]
    rows = torch.cat([train.features, held.features])[:, 0]
    assert rows.sort().values.tolist() == list(range(69))
    assert bool((labels[held.features[:, 0].long()] == held.labels).all())
    again = hold_out(numbered, torch.Generator().manual_seed(0))
    assert again is not None
    assert torch.equal(again[1].features, held.features)
    other = hold_out(numbered, torch.Generator().manual_seed(1))
    assert other is not None
    assert not torch.equal(other[1].features, held.features)
    single = Examples("x", torch.eye(3), torch.arange(3))
    assert hold_out(single, torch.Generator()) is None


@pytest.mark.parametrize("k,others", [(1, [1, 1, 0]), (2, [2, 2, 0]), (6, [4, 1, 0])])
def test_draw_shots_takes_k_of_each_class_and_others_to_choose_on(k: int, others: list[int]) -> None:
    labels = torch.tensor([5] * 20 + [1] * 7 + [2] * k)
    numbered = Examples("x", torch.arange(float(len(labels)))[:, None], labels)
    shots, rest = draw_shots(numbered, k, torch.Generator().manual_seed(0))
    assert shots.labels.bincount()[[5, 1, 2]].tolist() == [k] * 3
    assert rest.labels.bincount(minlength=6)[[5, 1, 2]].tolist() == others
    assert not set(shots.features[:, 0].tolist()) & set(rest.features[:, 0].tolist())
    assert scarcest(labels) == ((2, k) if k < 7 else (1, 7))


def test_nothing_is_logged_by_a_fit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        LogisticRegression(clusters(30, 4, 3, 0.5), 3).fit(1.0)
    assert not caplog.records
