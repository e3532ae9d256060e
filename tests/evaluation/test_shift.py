import math
from dataclasses import replace

import pytest
import torch

from patchclip.data.benchmarks import load_benchmark
from patchclip.data.sets import Classification
from patchclip.evaluation.embedder import Embedder, Encoding
from patchclip.evaluation.shift import (
    effective_robustness,
    is_imagenet,
    logit_fit,
    reference_of,
    shared_classes,
    shift_result,
    shifted_sets,
)
from patchclip.models import imagenet
from tests.evaluation._fakes import TableEncoder, labelled

NAMES = ("cat", "dog", "owl")


def named(name: str, shift_of: str = "", classnames: tuple[str, ...] = NAMES) -> Classification:
    return replace(labelled([0, 1, 2], classnames), name=name, shift_of=shift_of)


def embedder(guesses: list[int], names: tuple[str, ...] = NAMES) -> Embedder:
    """Takes picture(i) for class guesses[i]."""
    table = TableEncoder(
        torch.eye(len(names))[guesses], {n: torch.eye(len(names))[i] for i, n in enumerate(names)}
    )
    return Embedder(table, Encoding(batch_size=4))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    "name", ["imagenet1k", "wds/imagenet1k", "wds_imagenet1k", "ImageNet-1k", "imagenet"]
)
def test_imagenet_goes_by_many_names(name: str) -> None:
    assert is_imagenet(name)
    assert not is_imagenet(name + "-a")


def test_families_are_found_by_name_and_by_their_own_word() -> None:
    imagenet, photos = named("wds/imagenet1k"), named("photos")
    kin = [named(n) for n in ("imagenet-a", "wds_imagenet_sketch", "imagenetv2", "imagenet-o", "objectnet")]
    drawings = named("drawings", shift_of="Photos")
    sets = [imagenet, photos, *kin, drawings, named("cifar10")]
    assert shifted_sets(sets) == [*kin, drawings]
    assert all(reference_of(each, sets) is imagenet for each in kin)
    assert reference_of(drawings, sets) is photos
    assert reference_of(drawings, [imagenet, drawings]) is None


def test_classes_are_matched_by_name() -> None:
    own, places = shared_classes(("Dog", "great_owl", "yak"), ("cat", "great owl", "dog"))
    assert own.tolist() == [0, 1]
    assert places.tolist() == [-1, 1, 0]


def test_the_first_of_two_reference_classes_with_a_name_counts() -> None:
    own, places = shared_classes(("Dog", "great_owl", "yak"), ("cat", "great owl", "dog", "DOG ", "dog"))
    assert own.tolist() == [0, 1]
    assert places.tolist() == [-1, 1, 0, -1, -1]


def test_every_shared_name_of_imagenet_is_one_class() -> None:
    names = imagenet.classnames()
    own, places = shared_classes(("missile", "goldfish", "sunglasses", "yeti"), names)
    assert own.tolist() == [0, 1, 2]
    labels = {place: label for label, place in enumerate(places.tolist()) if place >= 0}
    assert labels == {0: 657, 1: 1, 2: 836}
    assert (places >= 0).sum() == 3
    assert (names[744], names[837]) == ("missile", "sunglasses")


def test_images_of_the_second_class_with_a_name_are_left_out() -> None:
    reference = named("photos", classnames=("cat", "owl", "cat"))  # its images: cat, owl, the other cat
    found = shift_result(embedder([0, 2, 1]), named("drawings", "photos", ("cat", "owl", "dog")), reference)
    assert found.details["reference_images"] == 2
    assert found.metrics["acc1_reference"] == 1  # the third, taken for a dog, is not asked


def test_equal_lists_are_matched_in_order() -> None:
    own, places = shared_classes(("a", "b", "a"), ("a", "b", "a"))
    assert own.tolist() == places.tolist() == [0, 1, 2]


def test_a_name_of_two_shifted_classes_is_left_out() -> None:
    own, places = shared_classes(("a", "b", "a", "c"), ("c", "b", "a"))
    assert own.tolist() == [1, 3]
    assert places.tolist() == [1, 0, -1]


def test_the_drop_is_over_the_same_classes() -> None:
    reference = named("photos", classnames=(*NAMES, "yak"))
    reference = replace(reference, labels=torch.tensor([0, 3, 1]).numpy())
    shifted = named("drawings", "photos", ("dog", "cat", "fox"))  # its images: dog, cat, fox
    names = (*NAMES, "yak", "fox")
    found = shift_result(embedder([0, 0, 1], names), shifted, reference)
    # shared: dog and cat. Drawings: a dog taken for a cat, a cat for a cat. Photos 0 and 2: both right.
    assert found.metrics == {"acc1": 0.5, "acc1_reference": 1.0, "drop": 0.5, "relative": 0.5}
    assert found.samples["acc1"].values.tolist() == [0.0, 1.0]
    assert found.samples["acc1"].group.tolist() == [0, 1]
    assert found.chance == {"acc1": 0.5, "acc1_reference": 0.5}
    assert (found.images, found.classes, found.dataset, found.task) == (
        2,
        2,
        "drawings",
        "distribution_shift",
    )
    assert found.details["left_out_first"] == ["fox"]
    assert found.details["reference_images"] == 2


def test_a_perfect_and_a_collapsed_model() -> None:
    pair = named("drawings", "photos"), named("photos")
    perfect = shift_result(embedder([0, 1, 2]), *pair).metrics
    assert perfect == {"acc1": 1.0, "acc1_reference": 1.0, "drop": 0.0, "relative": 1.0}
    collapsed = TableEncoder(torch.ones(3, 1), {name: torch.ones(1) for name in NAMES})
    assert shift_result(Embedder(collapsed, Encoding(batch_size=4)), *pair).metrics == {
        "acc1": 0.0,
        "acc1_reference": 0.0,
        "drop": 0.0,
    }


def test_without_a_reference_or_shared_names_the_reason_is_told() -> None:
    drawings = named("drawings", "photos")
    alone = shift_result(embedder([0, 1, 1]), drawings, None)
    assert alone.metrics == {"acc1": pytest.approx(2 / 3)}
    assert alone.details["reason"] == "its reference photos is not among the data sets evaluated"
    other = shift_result(embedder([0, 1, 1]), drawings, named("photos", classnames=("cat", "fox", "yak")))
    assert "only 1 of its 3 class names" in other.details["reason"]


def test_points_on_a_line_have_no_effective_robustness() -> None:
    ids = [0.2, 0.4, 0.6, 0.7, 0.9]
    shifted = [sigmoid(0.8 * math.log(x / (1 - x)) - 0.5) for x in ids]
    assert logit_fit(ids, shifted) == (pytest.approx(0.8), pytest.approx(-0.5))
    assert effective_robustness(ids, shifted) == [pytest.approx(0, abs=1e-12)] * 5


def test_one_point_above_the_line_has_its_distance() -> None:
    ids = [0.2, 0.4, 0.6, 0.9]
    line = [sigmoid(math.log(x / (1 - x)) - 1) for x in ids]
    found = effective_robustness(ids, [*line[:3], line[3] + 0.07])
    assert found[3] == pytest.approx(0.07)


def test_three_others_with_a_logit_are_needed() -> None:
    assert effective_robustness([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]) == [None] * 3
    assert effective_robustness([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.0]) == [
        None,
        None,
        None,
        pytest.approx(-0.4),
    ]
    assert effective_robustness([0.0, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])[0] is None
    assert effective_robustness([], []) == []


def test_models_of_equal_accuracy_make_no_line() -> None:
    assert logit_fit([0.5, 0.5, 0.5], [0.1, 0.2, 0.3]) is None
    assert logit_fit([0.5], [0.5]) is None
    assert effective_robustness([0.5] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]) == [None] * 5


def test_a_steep_line_predicts_nothing_beyond_0_and_1() -> None:
    found = effective_robustness([0.5, 0.50001, 0.50002, 0.1, 0.9], [0.2, 0.5, 0.8, 0.3, 0.4])
    assert all(value is not None and -1 <= value <= 1 for value in found)
    assert effective_robustness([0.5, 0.50001, 0.50002, 0.1], [0.2, 0.5, 0.8, 0.3])[3] == pytest.approx(0.3)


def test_a_line_needs_as_many_accuracies_of_both_sets() -> None:
    with pytest.raises(ValueError, match="shorter"):
        effective_robustness([0.5, 0.6], [0.5])


def test_the_shipped_outlines_shift_the_shipped_emoji() -> None:
    emoji, outlines = (load_benchmark("samples", name) for name in ("zs_emoji", "zs_emoji_outline"))
    assert isinstance(emoji, Classification)
    assert isinstance(outlines, Classification)
    assert shifted_sets([emoji, outlines]) == [outlines]
    assert reference_of(outlines, [emoji, outlines]) is emoji
    own, places = shared_classes(outlines.classnames, emoji.classnames)
    assert len(own) == len(emoji.classnames) == 285
    assert (places >= 0).all()
