import numpy as np
import pytest
import torch
from jaxtyping import Int64
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

from patchclip.errors import DataError
from patchclip.evaluation import _bootstrap
from patchclip.evaluation._confusion import Counts, chance, confusion, counts_of, ious, samples, scores

CLASSES = 7
ABSENT = 6
"""A class that is in no mask and in no prediction."""

Map = Int64[np.ndarray, "h w"]


def maps(seed: int = 0, images: int = 5, hit: float = 0.6) -> list[tuple[Map, Map]]:
    """Masks of three classes each with void, and predictions that are right `hit` of the time."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(images):
        shown = rng.choice(ABSENT, 3, replace=False)
        true = rng.choice(shown, (23, 31))
        wrong = rng.integers(0, ABSENT, true.shape)
        predicted = np.where(rng.random(true.shape) < hit, true, wrong)
        true[rng.random(true.shape) < 0.1] = -1
        found.append((true, predicted))
    return found


def whole(pairs: list[tuple[Map, Map]]) -> Counts:
    return counts_of(sum(confusion(true, predicted, CLASSES) for true, predicted in pairs))


def slow(pairs: list[tuple[Map, Map]]) -> dict[int, tuple[int, int, int]]:
    """Hits, union and true pixels of each class, pixel by pixel."""
    found = {c: [0, 0, 0] for c in range(CLASSES)}
    for true, predicted in pairs:
        for t, p in zip(true.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if t == -1:
                continue
            for c in found:
                found[c][0] += t == c and p == c
                found[c][1] += c in (t, p)
                found[c][2] += t == c
    return {c: (hits, union, own) for c, (hits, union, own) in found.items()}


def test_scores_by_hand() -> None:
    true = np.array([[0, 0, 1, 1], [2, 2, -1, 1]])
    predicted = np.array([[0, 1, 1, 1], [2, 0, 2, -1]])
    matrix = confusion(true, predicted, 4)
    assert matrix.tolist() == [[1, 1, 0, 0, 0], [0, 2, 0, 0, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    found = counts_of(matrix)
    np.testing.assert_allclose(ious(found), [1 / 3, 2 / 4, 1 / 2, np.nan])
    assert scores(found) == pytest.approx(
        {
            "miou": (1 / 3 + 1 / 2 + 1 / 2) / 3,
            "pixel_accuracy": 4 / 7,
            "mean_class_accuracy": (1 / 2 + 2 / 3 + 1 / 2) / 3,
        }
    )


def test_it_equals_torchmetrics_and_a_slow_loop() -> None:
    pairs = maps()
    found = scores(whole(pairs))
    theirs = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=-1)
    for true, predicted in pairs:
        theirs.update(torch.from_numpy(predicted), torch.from_numpy(true))
    assert found["miou"] == pytest.approx(theirs.compute().item(), abs=1e-6)
    counted = slow(pairs)
    present = [(hits, union, own) for hits, union, own in counted.values() if union]
    assert len(present) == CLASSES - 1
    assert found["miou"] == pytest.approx(np.mean([hits / union for hits, union, _ in present]))
    assert found["mean_class_accuracy"] == pytest.approx(
        np.mean([hits / own for hits, _, own in present if own])
    )
    total = sum(own for _, _, own in counted.values())
    assert found["pixel_accuracy"] == pytest.approx(sum(hits for hits, _, _ in counted.values()) / total)


def test_three_other_definitions_give_other_figures() -> None:
    pairs = maps()
    ours = scores(whole(pairs))["miou"]
    ratios = ious(whole(pairs))
    zero_for_absent = np.nan_to_num(ratios).mean()
    an_image = np.mean([scores(whole([pair]))["miou"] for pair in pairs])
    theirs = MeanIoU(CLASSES, input_format="index")  # a mean over images; void counts as what is predicted
    for true, predicted in pairs:
        filled = np.where(true == -1, 0, true)
        theirs.update(torch.from_numpy(predicted)[None], torch.from_numpy(filled)[None])
    others = [zero_for_absent, an_image, theirs.compute().item()]
    assert all(abs(other - ours) > 0.01 for other in others), (ours, others)


def test_the_order_of_images_and_how_they_are_cut_do_not_matter() -> None:
    pairs = maps()
    upright = [(true.T.copy(), predicted.T.copy()) for true, predicted in reversed(pairs)]
    assert scores(whole(pairs)) == scores(whole(upright))
    joined = [tuple(np.concatenate(column) for column in zip(*pairs, strict=True))]
    assert scores(whole(pairs)) == scores(whole(joined))  # type: ignore[arg-type]


def test_perfect_and_empty_predictions() -> None:
    pairs = maps()
    assert set(scores(whole([(true, true) for true, _ in pairs])).values()) == {1.0}
    none = [(true, np.full_like(true, -1)) for true, _ in pairs]
    assert set(scores(whole(none)).values()) == {0.0}
    with pytest.raises(DataError, match="no pixel has a class"):
        scores(whole([(np.full((2, 2), -1), np.zeros((2, 2), np.int64))]))


def test_a_class_that_is_predicted_but_never_true_counts_as_zero() -> None:
    true = np.zeros((4, 4), np.int64)
    predicted = true.copy()
    predicted[0] = 1
    found = scores(counts_of(confusion(true, predicted, 3)))
    assert found == {"miou": 0.375, "pixel_accuracy": 0.75, "mean_class_accuracy": 0.75}


@pytest.mark.parametrize(
    ("true", "predicted", "words"),
    [
        (np.zeros((2, 3), np.int64), np.zeros((3, 2), np.int64), "3 x 2 and a prediction of 2 x 3 px"),
        (np.full((2, 2), 3), np.zeros((2, 2), np.int64), "a mask holds 3 to 3; 3 classes are 0 to 2"),
        (np.full((2, 2), 255), np.zeros((2, 2), np.int64), "a mask holds 255"),
        (np.zeros((2, 2), np.int64), np.full((2, 2), -2), "a prediction holds -2"),
    ],
)
def test_wrong_maps_are_refused(true: Map, predicted: Map, words: str) -> None:
    with pytest.raises(DataError, match=words):
        confusion(true, predicted, 3)


def test_chance_is_what_random_labels_score() -> None:
    rng = np.random.default_rng(0)
    true = rng.choice(4, (700, 700), p=[0.7, 0.2, 0.1, 0.0])
    found = counts_of(confusion(true, rng.integers(0, 4, true.shape), 4))
    assert chance(found.true) == pytest.approx(scores(found), abs=2e-3)
    assert chance(found.true)["miou"] < 1 / 4


def test_the_mean_of_the_samples_is_the_metric() -> None:
    pairs = maps()
    each = [whole([pair]) for pair in pairs]
    found = samples(each, [3, 5, 7, 11, 13])
    for name, value in scores(whole(pairs)).items():
        assert found[name].values.mean().item() == pytest.approx(value, abs=1e-6)
        assert found[name].group.tolist() == [3, 5, 7, 11, 13]


def test_draws_of_the_samples_spread_as_the_metric_of_drawn_sets_does() -> None:
    images, draws = 60, 400
    each = [[whole([pair]) for pair in maps(seed, images, hit)] for seed, hit in ((0, 0.6), (0, 0.7))]
    first, second = (samples(counts, range(images)) for counts in each)
    pairs = {name: pair for name in first if (pair := _bootstrap.pair(first[name], second[name])) is not None}
    linear = _bootstrap.differences(pairs, draws, np.random.default_rng(0))
    weights = np.random.default_rng(1).multinomial(images, np.full(images, 1 / images), draws)

    def drawn(counts: list[Counts], weight: Int64[np.ndarray, "m"]) -> dict[str, float]:
        stacked = {k: np.stack([getattr(c, k) for c in counts]) for k in ("hits", "predicted", "true")}
        return scores(Counts(**{name: weight @ rows for name, rows in stacked.items()}))

    whole_sets = [[drawn(counts, weight) for counts in each] for weight in weights]
    for name, spread in linear.items():
        true = np.array([other[name] - base[name] for base, other in whole_sets])
        assert spread.mean() == pytest.approx(true.mean(), abs=0.3 * true.std())
        assert spread.std() == pytest.approx(true.std(), rel=0.15)
