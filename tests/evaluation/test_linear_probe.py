import json
import logging
from dataclasses import replace
from functools import partial
from math import nan
from statistics import stdev

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from patchclip import registry
from patchclip.data.sets import Classification, Retrieval
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.probe import logistic, sgd
from patchclip.evaluation.probe.examples import Examples, draw_shots, hold_out
from patchclip.evaluation.probe.logistic import LogisticRegression, fit_with_search
from patchclip.evaluation.result import Result
from patchclip.evaluation.suites.linear_probe import LinearProbeSuite

from ._fakes import FakeImages, TableEncoder

NAMES = ("cat", "dog", "owl", "bee", "ant", "fox")


class Numbered(FakeImages):
    """picture(first + i): splits that look different to the encoder."""

    def __init__(self, first: int, count: int, broken: dict[int, str] | None = None) -> None:
        super().__init__(count, broken)
        self.first, self.fingerprint = first, f"fake from {first} to {first + count}"

    def __getitem__(self, index: int) -> Image.Image:
        super().__getitem__(index)
        number = self.first + index
        return Image.new("RGB", (8, 8), (number % 256, number // 256, 0))


def number_of(image: Image.Image) -> Tensor:
    red, green, _ = image.getpixel((0, 0))
    return torch.full((3, 2, 2), float(256 * green + red))


def task(
    sizes: dict[str, int], noise: float = 0.3, classes: int = 6, broken: dict[str, int] | None = None
) -> tuple[TableEncoder, Classification]:
    """A model that puts images near the axis of their class, and a set with splits of these sizes."""
    generator = torch.Generator().manual_seed(0)
    rows: list[Tensor] = []
    splits: dict[str, Classification] = {}
    for name, size in sizes.items():
        labels = torch.arange(size) % classes
        bad = {(broken or {})[name]: "truncated"} if name in (broken or {}) else None
        images = Numbered(sum(map(len, rows)), size, bad)
        rows.append(F.one_hot(labels, 8).float() + noise * torch.randn(size, 8, generator=generator))
        splits[name] = Classification(
            "fake", images, labels.numpy(), NAMES[:classes], ("{c}",), opener=splits.get
        )
    table = F.normalize(torch.cat(rows), dim=1)
    encoder = TableEncoder(table, {"a": torch.ones(8)})
    encoder.preprocess = number_of
    return encoder, splits["test"]


def run(suite: LinearProbeSuite, encoder: TableEncoder, *sets: Classification) -> list[Result]:
    return list(suite.results(Embedder(encoder, Encoding(batch_size=64)), list(sets)))


def test_perfect_embeddings_score_one_and_report_chance() -> None:
    (result,) = run(LinearProbeSuite(), *task({"test": 36, "train": 60}, noise=0.0))
    assert (result.task, result.dataset, result.images, result.classes) == ("linear_probe", "fake", 36, 6)
    scores = {name: value for name, value in result.metrics.items() if name.startswith("lp_")}
    assert scores == {"lp_acc1": 1.0, "lp_acc5": 1.0, "lp_mean_per_class_recall": 1.0}
    assert result.chance == pytest.approx(
        {"lp_acc1": 1 / 6, "lp_acc5": 5 / 6, "lp_mean_per_class_recall": 1 / 6}
    )
    notes = {name: result.metrics[name] for name in ("fewshot_k", "seed", "normalized")}
    assert notes == {"fewshot_k": -1, "seed": 0, "normalized": 1}
    assert 1e-6 <= result.metrics["C"] <= 1e6
    assert result.details["chosen_on"] == "chosen on a tenth of the train split"
    assert result.details["train_images"] == 60
    assert result.clip_benchmark == {}
    json.dumps(result.to_json(), allow_nan=False)


def test_the_full_probe_is_the_regression_on_train_and_validation() -> None:
    encoder, benchmark = task({"test": 60, "train": 60, "val": 30}, noise=0.6)
    (result,) = run(LinearProbeSuite(), encoder, benchmark)
    assert result.details["chosen_on"] == "chosen on the val split"
    both = Examples("both", encoder.images[60:], torch.cat([torch.arange(60), torch.arange(30)]) % 6)
    classifier = LogisticRegression(both, 6).fit(result.metrics["C"])
    guesses = (encoder.images[:60].double() @ classifier.weight.T + classifier.bias).argmax(1)
    assert result.metrics["lp_acc1"] == (guesses == torch.arange(60) % 6).double().mean().item()
    assert dict(result.details["sweep"])[result.metrics["C"]] == max(dict(result.details["sweep"]).values())


def test_without_a_validation_split_a_tenth_is_held_out_and_given_back() -> None:
    encoder, benchmark = task({"test": 60, "train": 60}, noise=0.6)
    (result,) = run(LinearProbeSuite(seed=4), encoder, benchmark)
    train = Examples("train", encoder.images[60:], torch.arange(60) % 6)
    drawn = hold_out(train, torch.Generator().manual_seed(4))
    assert drawn is not None
    classifier = LogisticRegression(drawn[0], 6).fit(1.0)
    hits = (drawn[1].features.double() @ classifier.weight.T + classifier.bias).argmax(1) == drawn[1].labels
    assert dict(result.details["sweep"])[1.0] == pytest.approx(hits.double().mean().item())


def test_random_embeddings_are_at_chance_and_constant_ones_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "EPOCHS", 2)
    encoder, benchmark = task({"test": 600, "train": 120})
    encoder.images = F.normalize(torch.randn(720, 8, generator=torch.Generator().manual_seed(5)), dim=1)
    for solver in ("lbfgs", "sgd"):
        (result,) = run(LinearProbeSuite(solver=solver), encoder, benchmark)
        assert result.metrics["lp_acc1"] == pytest.approx(1 / 6, abs=5 * (5 / 36 / 600) ** 0.5)
    encoder.images = torch.full((720, 8), 8**-0.5)
    for solver in ("lbfgs", "sgd"):
        (result,) = run(LinearProbeSuite(solver=solver), encoder, benchmark)
        assert result.metrics["lp_acc1"] <= 1 / 6
        assert result.metrics["lp_mean_per_class_recall"] <= 1 / 6 + 1e-9


def test_samples_average_to_the_metrics() -> None:
    encoder, benchmark = task({"test": 40, "train": 60}, noise=0.8, broken={"test": 7, "train": 3})
    for result in run(LinearProbeSuite(shots=(0, 2)), encoder, benchmark):
        assert set(result.samples) == {"lp_acc1", "lp_acc5", "lp_mean_per_class_recall"}
        for name, found in result.samples.items():
            assert found.values.mean().item() == pytest.approx(result.metrics[name], abs=1e-6)
            assert found.group.tolist() == [i for i in range(40) if i != 7]


def test_unreadable_images_are_left_out_of_every_split() -> None:
    encoder, benchmark = task({"test": 36, "train": 60}, noise=0.0, broken={"test": 1, "train": 59})
    (result,) = run(LinearProbeSuite(), encoder, benchmark)
    assert (result.images, result.metrics["lp_acc1"]) == (35, 1.0)
    assert result.details["train_images"] == 59
    assert [sample.reason for sample in result.bad] == ["truncated"] * 2


def test_few_shot_results_are_means_over_seeds() -> None:
    full, one, four = run(
        LinearProbeSuite(shots=(0, 1, 4)), *task({"test": 60, "train": 90, "val": 30}, noise=0.5)
    )
    assert [r.task for r in (full, one, four)] == ["linear_probe", "linear_probe_1shot", "linear_probe_4shot"]
    assert [r.metrics["fewshot_k"] for r in (full, one, four)] == [-1, 1, 4]
    assert len({replace(r, model="m").stem for r in (full, one, four)}) == 3
    rows = four.details["seeds"]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    values = [row["lp_acc1"] for row in rows]
    assert four.metrics["lp_acc1"] == pytest.approx(sum(values) / 3)
    assert four.details["std"]["lp_acc1"] == pytest.approx(stdev(values))
    assert "C" in rows[0]
    assert "C" not in four.metrics
    assert full.metrics["lp_acc1"] >= four.metrics["lp_acc1"] > one.metrics["lp_acc1"] > 1 / 6
    assert four.details["chosen_on"] == "chosen on the val split"


def test_few_shot_without_validation_chooses_on_other_train_images() -> None:
    (result,) = run(LinearProbeSuite(shots=(2,), seeds=1), *task({"test": 60, "train": 90}))
    assert result.details["chosen_on"] == "chosen on other train images"
    assert "std" not in result.details


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_a_few_shot_probe_learns_from_its_shots_alone(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "EPOCHS", 2)
    encoder, benchmark = task({"test": 60, "train": 90, "val": 30}, noise=0.5)
    (result,) = run(LinearProbeSuite(solver=solver, shots=2, seeds=1), encoder, benchmark)
    train = Examples("train", encoder.images[60:150], torch.arange(90) % 6)
    validation = Examples("val", encoder.images[150:], torch.arange(30) % 6)
    shots, _ = draw_shots(train, 2, torch.Generator().manual_seed(0))
    fit = fit_with_search if solver == "lbfgs" else partial(sgd.fit_as_clip_benchmark, seed=0)
    right = []
    for refit in (False, True):
        linear = fit(shots, validation, 6, refit=refit).classifier
        guesses = torch.cat([scores.argmax(1) for _, scores in linear.blocks(encoder.images[:60])])
        right.append((guesses == torch.arange(60) % 6).float())
    assert torch.equal(result.samples["lp_acc1"].values, right[0])
    assert not torch.equal(*right)
    assert result.details["train_images"] == 12


def test_the_train_images_of_a_result_are_those_it_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "EPOCHS", 1)
    monkeypatch.setattr(logistic, "GRID", 33)
    encoder, benchmark = task({"test": 60, "train": 90, "val": 30})
    for solver in ("lbfgs", "sgd"):
        results = run(LinearProbeSuite(solver=solver, shots=(0, 1, 4)), encoder, benchmark)
        assert [r.details["train_images"] for r in results] == [120, 6, 24]
    train = benchmark.split("train")
    assert train is not None
    gap = replace(train, labels=train.labels % 3)
    opener = {"train": gap, "val": benchmark.split("val")}.get
    full, few = run(LinearProbeSuite(shots=(0, 2)), encoder, replace(benchmark, opener=opener))
    assert (full.details["unseen_classes"], few.details["unseen_classes"]) == (0, 3)
    assert few.details["train_images"] == 6


def test_a_k_with_too_few_images_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        results = run(LinearProbeSuite(shots=(2, 5, 6)), *task({"test": 60, "train": 30}))
    assert [r.task for r in results] == ["linear_probe_2shot"]
    text = caplog.text
    assert "fake/train: no 6-shot probe: class 'cat' has 5 training images" in text
    assert "no image is left to choose C on" in text  # all five are trained on


def test_acc5_is_absent_below_five_classes_and_there_at_five() -> None:
    (four,) = run(LinearProbeSuite(), *task({"test": 20, "train": 40}, classes=4))
    assert "lp_acc5" not in {*four.metrics, *four.chance, *four.samples}
    (five,) = run(LinearProbeSuite(), *task({"test": 20, "train": 40}, classes=5))
    assert five.metrics["lp_acc5"] == 1.0


def test_sets_that_cannot_be_probed_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    encoder, alone = task({"test": 6})
    one_class = Classification("one", FakeImages(2), np.zeros(2, np.int64), ("cat",), ("{c}",))
    pairs = Retrieval("pairs", FakeImages(2), [("a",), ("a",)])
    with caplog.at_level(logging.INFO):
        results = LinearProbeSuite().results(Embedder(encoder), [alone, one_class, pairs])
        assert list(results) == []
    assert [r.getMessage() for r in caplog.records] == ["fake: no linear probe: it has no train split"]


def test_the_test_images_are_never_learned_from() -> None:
    """An image folder may give its "val" as "test" and again as "val"."""
    encoder, benchmark = task({"test": 36, "train": 60})
    train = benchmark.split("train")
    twice = replace(benchmark, opener={"train": train, "val": benchmark}.get)
    (result,) = run(LinearProbeSuite(), encoder, twice)
    assert result.details["chosen_on"] == "chosen on a tenth of the train split"
    assert run(LinearProbeSuite(), encoder, replace(benchmark, opener={"train": benchmark}.get)) == []


def test_sgd_reports_as_clip_benchmark_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sgd, "EPOCHS", 1)
    suite = LinearProbeSuite(solver="sgd", shots=(0, 4), seeds=2)
    full, few = run(suite, *task({"test": 36, "train": 60, "val": 30}, noise=0.1))
    assert set(full.metrics) == {
        *("lp_acc1", "lp_acc5", "lp_mean_per_class_recall", "weight_decay", "epochs", "seed", "fewshot_k"),
        "normalized",
    }
    assert full.metrics["lp_acc1"] == 1.0
    assert 1e-6 <= full.metrics["weight_decay"] <= 1e2
    assert [set(row) >= {"seed", "weight_decay"} for row in few.details["seeds"]] == [True, True]
    (plain,) = run(LinearProbeSuite(solver="sgd"), *task({"test": 36, "train": 60}, noise=0.1))
    assert plain.metrics["weight_decay"] == 0.0


def test_broken_embeddings_count_against_the_model_or_are_refused() -> None:
    encoder, benchmark = task({"test": 36, "train": 60}, noise=0.0)
    encoder.images[0] = nan
    (result,) = run(LinearProbeSuite(), encoder, benchmark)
    assert result.metrics["lp_acc1"] == pytest.approx(35 / 36)
    encoder.images[40] = nan
    with pytest.raises(DataError, match="fake/train: the embeddings of 1 of"):
        run(LinearProbeSuite(), encoder, benchmark)


def test_a_label_outside_the_class_names_names_the_split() -> None:
    encoder, benchmark = task({"test": 36, "train": 60})
    train = benchmark.split("train")
    assert train is not None
    wrong = replace(train, labels=train.labels + 1)
    with pytest.raises(DataError, match=r"fake/train: label 6 must be in \[0, 5\]"):
        run(LinearProbeSuite(), encoder, replace(benchmark, opener={"train": wrong}.get))


@pytest.mark.parametrize(
    "options,match",
    [
        ({"solver": "adam"}, "solver='adam' must be one of lbfgs, sgd"),
        ({"shots": (1, -1)}, r"shots=\(1, -1\) must be"),
        ({"shots": (2, 2)}, "different numbers"),
        ({"seeds": 0}, "seeds=0 must be at least 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.build("suites", "linear-probe", **options)


def test_one_number_of_shots_may_stand_alone() -> None:
    one = registry.build("suites", "linear-probe", shots=4, seeds=1)
    (result,) = run(one, *task({"test": 6, "train": 60}))
    assert result.task == "linear_probe_4shot"
    assert registry.build("suites", "linear-probe", shots=[1, 2]).shots == (1, 2)
