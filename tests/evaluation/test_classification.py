import json
from math import nan

import pytest
import torch
import torch.nn.functional as F

from patchclip.errors import DataError
from patchclip.evaluation.zeroshot import class_embeddings, zeroshot

from ._fakes import FakeSet, TableEncoder

ANIMALS = ("cat", "dog", "owl", "bee", "ant", "fox")


def perfect(classes: int = 6) -> TableEncoder:
    rows = torch.eye(classes)
    return TableEncoder(rows, {name: rows[i] for i, name in enumerate(ANIMALS[:classes])})


def test_class_embeddings_are_the_renormalised_mean_of_unit_prompts() -> None:
    texts = {
        "a cat": torch.tensor([3.0, 0.0]),  # not of unit length: the encoder's scale must not matter
        "the cat": torch.tensor([0.0, 1.0]),
        "a dog": torch.tensor([1.0, 0.0]),
        "the dog": torch.tensor([1.0, 0.0]),
    }
    found = class_embeddings(TableEncoder(torch.eye(2), texts), ["cat", "dog"], ["a {c}", "the {}"], 3)
    half = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[half, half], [1.0, 0.0]]))


def test_prompts_are_batched_across_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = perfect()
    class_embeddings(encoder, ANIMALS, ["{c}"], 4)
    assert encoder.text_batches == [4, 2]
    monkeypatch.setattr("patchclip.evaluation.zeroshot.PROMPTS_HELD", 2)
    torch.testing.assert_close(class_embeddings(encoder, ANIMALS, ["{c}"], 4), torch.eye(6))


def test_perfect_model_scores_one_and_reports_chance() -> None:
    seen: list[tuple[int, int]] = []
    result = zeroshot(
        perfect(), FakeSet([0, 1, 2, 3, 4, 5], ANIMALS), 4, lambda done, total: seen.append((done, total))
    )
    assert result.metrics == {"acc1": 1.0, "acc5": 1.0, "mean_per_class_recall": 1.0}
    assert result.chance == pytest.approx({"acc1": 1 / 6, "acc5": 5 / 6, "mean_per_class_recall": 1 / 6})
    assert (result.images, result.classes, result.model) == (6, 6, "ViT-Table:test")
    assert seen == [(4, 6), (6, 6)]


def test_accuracy_and_recall_by_hand() -> None:
    encoder = perfect()
    encoder.images = F.one_hot(torch.tensor([0, 0, 1, 2, 2, 3]), 6).float() + torch.linspace(0, 0.1, 6)
    result = zeroshot(encoder, FakeSet([0, 0, 0, 2, 1, 3], ANIMALS))
    assert result.metrics["acc1"] == pytest.approx(4 / 6)
    assert result.metrics["mean_per_class_recall"] == pytest.approx((2 / 3 + 0 + 1 + 1) / 4)
    worst = result.details["worst_classes"]
    assert worst[0] == {"class": "dog", "recall": 0.0, "images": 1, "taken_for": "owl", "times": 1}
    assert worst[1]["class"] == "cat"


@pytest.mark.parametrize("value", [0.0, 1.0, nan])
def test_collapsed_model_scores_nothing_and_stays_json(value: float) -> None:
    encoder = perfect()
    encoder.images = torch.full((6, 6), value)
    encoder.texts = dict.fromkeys(encoder.texts, torch.full((6,), value))
    result = zeroshot(encoder, FakeSet([0, 1, 2, 3, 4, 5], ANIMALS))
    assert result.metrics == {"acc1": 0.0, "acc5": 0.0, "mean_per_class_recall": 0.0}
    json.dumps(result.to_json(), allow_nan=False)


def test_acc5_is_absent_below_five_classes() -> None:
    result = zeroshot(perfect(4), FakeSet([0, 1, 2, 3], ANIMALS[:4]))
    assert set(result.metrics) == set(result.chance) == {"acc1", "mean_per_class_recall"}


def test_an_unreadable_image_is_counted_and_left_out() -> None:
    result = zeroshot(perfect(), FakeSet([0, OSError("truncated file"), 2, 3, 4, 5], ANIMALS))
    assert (result.images, result.metrics["acc1"]) == (5, 1.0)
    assert [(bad.key, bad.reason) for bad in result.bad] == [("fake/1", "truncated file")]


@pytest.mark.parametrize(
    "entries,names,templates,message",
    [
        ([], ANIMALS, ("{c}",), "none of its 0 images"),
        ([OSError("gone")], ANIMALS, ("{c}",), "the first failed with: gone"),
        ([0, 6], ANIMALS, ("{c}",), r"label 6 must be in \[0, 5\]"),
        ([0, -1], ANIMALS, ("{c}",), "label -1"),
        ([0], ANIMALS, ("a photo",), "no place for the class name"),
        ([0], ANIMALS, (), "0 templates"),
        ([0], (), ("{c}",), "0 class names"),
    ],
)
def test_bad_sets_are_named(
    entries: list[object], names: tuple[str, ...], templates: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        zeroshot(perfect(), FakeSet(entries, names, templates))
