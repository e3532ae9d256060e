import json
import math
from math import nan

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from patchclip.data.sets import Multilabel
from patchclip.errors import DataError
from patchclip.evaluation.suites.classification import ClassificationSuite

from ._fakes import FakeImages, TableEncoder, labelled, score

ANIMALS = ("cat", "dog", "owl", "bee", "ant", "fox")
SUITE = ClassificationSuite()


def perfect(classes: int = 6) -> TableEncoder:
    rows = torch.eye(classes)
    return TableEncoder(rows, {name: rows[i] for i, name in enumerate(ANIMALS[:classes])})


def test_perfect_model_scores_one_and_reports_chance() -> None:
    result = score(SUITE, perfect(), labelled([0, 1, 2, 3, 4, 5], ANIMALS), 4)
    assert result.metrics == {
        "acc1": 1.0,
        "acc5": 1.0,
        "mean_per_class_recall": 1.0,
        "ece": pytest.approx(0.0, abs=1e-6),
    }
    assert result.chance == pytest.approx({"acc1": 1 / 6, "acc5": 5 / 6, "mean_per_class_recall": 1 / 6})
    assert (result.images, result.classes, result.clip_benchmark) == (6, 6, {})
    assert result.details["confusion"] == {}


def test_accuracy_recall_and_confusion_by_hand() -> None:
    encoder = perfect()
    encoder.images = F.one_hot(torch.tensor([0, 0, 1, 2, 2, 3]), 6).float() + torch.linspace(0, 0.1, 6)
    result = score(SUITE, encoder, labelled([0, 0, 0, 2, 1, 3], ANIMALS))
    assert result.metrics["acc1"] == pytest.approx(4 / 6)
    assert result.metrics["mean_per_class_recall"] == pytest.approx((2 / 3 + 0 + 1 + 1) / 4)
    worst = result.details["worst_classes"]
    assert worst[0] == {"class": "dog", "recall": 0.0, "images": 1, "taken_for": "owl", "times": 1}
    assert worst[1]["class"] == "cat"
    assert result.details["confusion"] == {
        "classes": ["cat", "dog", "owl"],
        "counts": [[2, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]],
    }


def test_samples_average_to_the_metrics() -> None:
    encoder = perfect()
    encoder.images = torch.rand(6, 6, generator=torch.Generator().manual_seed(1))
    result = score(SUITE, encoder, labelled([0, 0, 0, 2, 1, 3], ANIMALS, broken={3: "gone"}))
    for name in ("acc1", "acc5", "mean_per_class_recall"):
        assert result.samples[name].values.mean().item() == pytest.approx(result.metrics[name], abs=1e-6)
        assert result.samples[name].group.tolist() == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("value", [0.0, 1.0, nan])
def test_collapsed_model_scores_nothing_and_stays_json(value: float) -> None:
    encoder = perfect()
    encoder.images = torch.full((6, 6), value)
    encoder.texts = dict.fromkeys(encoder.texts, torch.full((6,), value))
    result = score(SUITE, encoder, labelled([0, 1, 2, 3, 4, 5], ANIMALS))
    assert [result.metrics[name] for name in ("acc1", "acc5", "mean_per_class_recall")] == [0.0] * 3
    assert result.clip_benchmark["acc5"] == pytest.approx(5 / 6)  # topk gives ties to the first classes
    json.dumps(result.to_json(), allow_nan=False)


def test_confidence_is_that_of_the_models_own_scale() -> None:
    """Cosines 1 and 0 at scale 1: confidence e / (e + 1), all right, so the error is 1 / (e + 1)."""
    encoder = perfect(2)
    encoder.scale = 1.0
    result = score(SUITE, encoder, labelled([0, 1], ANIMALS[:2]))
    assert result.metrics["ece"] == pytest.approx(1 / (math.e + 1))


def test_a_tie_in_cosine_is_one_in_the_calibration() -> None:
    """Cosines 5e-7 apart at scale 100: tied, so wrong, with confidence 1/2."""
    encoder = TableEncoder(
        torch.tensor([[1.0, 1.0 - 5e-7]]), {"cat": torch.eye(2)[0], "dog": torch.eye(2)[1]}
    )
    result = score(SUITE, encoder, labelled([0], ANIMALS[:2]))
    assert result.metrics["acc1"] == 0.0
    assert result.metrics["ece"] == pytest.approx(0.5, abs=1e-3)


def test_classes_of_one_name_tie_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    names = ("cat", "dog", "cat")
    with caplog.at_level("INFO", logger="patchclip"):
        result = score(SUITE, perfect(2), labelled([0, 1], names))
    assert result.metrics["acc1"] == 0.5
    assert result.clip_benchmark["acc1"] == 1.0
    assert "classes of one name tie, their images count as wrong: ['cat']" in caplog.text


def test_acc5_is_absent_below_five_classes() -> None:
    result = score(SUITE, perfect(4), labelled([0, 1, 2, 3], ANIMALS[:4]))
    assert set(result.metrics) == {"acc1", "mean_per_class_recall", "ece"}
    assert set(result.chance) == {"acc1", "mean_per_class_recall"}


def test_an_unreadable_image_is_counted_and_left_out() -> None:
    result = score(SUITE, perfect(), labelled([0, 1, 2, 3, 4, 5], ANIMALS, broken={1: "truncated"}))
    assert (result.images, result.metrics["acc1"]) == (5, 1.0)
    assert [(bad.key, bad.reason) for bad in result.bad] == [("fake/1", "truncated")]


@pytest.mark.parametrize(
    "labels,broken,names,templates,message",
    [
        ([], {}, ANIMALS, ("{c}",), "none of its 0 images"),
        ([0], {0: "gone"}, ANIMALS, ("{c}",), "the first failed with: gone"),
        ([0, 6], {}, ANIMALS, ("{c}",), r"label 6 must be in \[0, 5\]"),
        ([0, -1], {}, ANIMALS, ("{c}",), "label -1"),
        ([0], {}, ANIMALS, ("a photo",), "no place for the class name"),
        ([0], {}, ANIMALS, (), "at least one prompt"),
        ([0], {}, (), ("{c}",), "0 classes"),
    ],
)
def test_bad_sets_are_named(
    labels: list[int],
    broken: dict[int, str],
    names: tuple[str, ...],
    templates: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        score(SUITE, perfect(), labelled(labels, names, templates, broken))


def test_several_labels_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Average precision of cat: right images at places 1 and 3; dog: place 1; owl has none."""
    monkeypatch.setattr("patchclip.evaluation.suites.classification.BLOCK_SCORES", 4)  # a class at a time
    encoder = perfect(3)
    encoder.images = torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.8, 0.1], [0.3, 0.6, 0.0], [0.2, 0.2, 0.3]])
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], np.uint8)
    data = Multilabel("fake", FakeImages(4), labels, ANIMALS[:3], ("{c}",))
    result = score(SUITE, encoder, data)
    cat, dog = (1 + 2 / 3) / 2, 1.0
    assert result.metrics == {"mean_average_precision": pytest.approx((cat + dog) / 2)}
    assert result.clip_benchmark == {"mean_average_precision": pytest.approx((cat + dog) / 3)}
    assert result.details["worst_classes"][0]["class"] == "cat"
    # a random order: one right image of four is at place 1 to 4 alike; two have 1/3 + 2/12 * 25/12
    chance = (1 / 3 + 2 / 12 * 25 / 12 + (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4) / 2
    assert result.chance["mean_average_precision"] == pytest.approx(chance)


def test_labels_stay_with_their_images_when_some_cannot_be_read() -> None:
    labels = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.uint8)
    encoder = perfect(2)
    encoder.images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    data = Multilabel("fake", FakeImages(4, {1: "gone"}), labels, ANIMALS[:2], ("{c}",))
    result = score(SUITE, encoder, data)
    assert (result.metrics["mean_average_precision"], result.images) == (1.0, 3)


def test_several_labels_of_a_collapsed_model() -> None:
    """Ties stand in the worst order here, and in the order of the images at clip_benchmark."""
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, 0]], np.uint8)
    encoder = TableEncoder(torch.ones(4, 2), dict.fromkeys(ANIMALS[:2], torch.ones(2)))
    data = Multilabel("fake", FakeImages(4), labels, ANIMALS[:2], ("{c}",))
    result = score(SUITE, encoder, data)
    assert result.metrics["mean_average_precision"] == pytest.approx(1 / 4)
    order = torch.ones(4).sort(0, True).indices.tolist()
    places = [order.index(0) + 1, order.index(2) + 1]
    theirs = result.clip_benchmark["mean_average_precision"]
    assert theirs == pytest.approx(sum(1 / place for place in places) / 2)
