"""Every metric against an independent implementation, and against planted embeddings with known values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.retrieval import RetrievalHitRate

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import _metrics as M
from patchclip.evaluation._average_precision import average_precision
from patchclip.evaluation._calibration import Calibration

Planted = tuple[torch.Tensor, torch.Tensor]


def unit(rows: int, width: int, generator: torch.Generator) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=generator), dim=1)


# Classification


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_accuracy_equals_scikit_learn(k: int, seeded: torch.Generator) -> None:
    scores, labels = torch.randn(400, 9, generator=seeded), torch.arange(400) % 9
    ours = M.share_within(M.label_ranks(scores, labels), k)
    assert ours == pytest.approx(sk.top_k_accuracy_score(labels, scores.numpy(), k=k), abs=1e-12)


def test_mean_per_class_recall_equals_scikit_learn(seeded: torch.Generator) -> None:
    scores = torch.randn(500, 7, generator=seeded)
    labels = torch.cat([torch.arange(7), torch.randint(0, 7, (493,), generator=seeded) ** 2 % 7])
    ours = M.class_recall(M.label_ranks(scores, labels), labels)[1].mean().item()
    assert ours == pytest.approx(sk.balanced_accuracy_score(labels, scores.argmax(1)), abs=1e-12)


def test_recall_of_each_class_equals_scikit_learn(seeded: torch.Generator) -> None:
    scores, labels = torch.randn(200, 6, generator=seeded), torch.randint(0, 5, (200,), generator=seeded)
    present, recall, images = M.class_recall(M.label_ranks(scores, labels), labels)
    wanted = sk.recall_score(labels, scores.argmax(1), labels=present.tolist(), average=None)
    assert recall.numpy() == pytest.approx(wanted, abs=1e-12)
    assert images.tolist() == labels.bincount()[present].tolist()


def test_planted_classifiers(seeded: torch.Generator) -> None:
    """Perfect is 1, constant is 0, random is chance within five standard deviations of a binomial."""
    classes, images = 8, 4000
    centres, labels = torch.eye(classes), torch.arange(images) % classes
    perfect = M.label_ranks(centres[labels] @ centres.T, labels, M.COSINE_TIE)
    assert perfect.unique().tolist() == [1]
    same = centres[:1].expand(images, -1) + 1e-8 * torch.randn(images, classes, generator=seeded)
    constant = M.label_ranks(same @ centres[:1].expand(classes, -1).T, labels, M.COSINE_TIE)
    assert constant.unique().tolist() == [classes]
    random = M.label_ranks(unit(images, 16, seeded) @ unit(classes, 16, seeded).T, labels, M.COSINE_TIE)
    for k in (1, 5):
        chance = M.classification_chance(classes, k)
        spread = 5 * (chance * (1 - chance) / images) ** 0.5
        assert M.share_within(random, k) == pytest.approx(chance, abs=spread)


# Retrieval


def captioned(seeded: torch.Generator) -> Planted:
    """Numbers of the images of 200 captions, one to nine an image, shuffled."""
    each = torch.randint(1, 10, (40,), generator=seeded)
    owners = torch.arange(40).repeat_interleave(each)
    return owners[torch.randperm(len(owners), generator=seeded)], torch.arange(40)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_at_k_equals_torchmetrics_both_ways(k: int, seeded: torch.Generator) -> None:
    owners, numbers = captioned(seeded)
    images = unit(40, 12, seeded)
    captions = F.normalize(images[owners] + 0.9 * unit(len(owners), 12, seeded), dim=1)
    for queries, gallery, query_id, gallery_id in (
        (captions, images, owners, numbers),
        (images, captions, numbers, owners),
    ):
        ranks, _ = M.matched_ranks(queries, gallery, query_id, gallery_id)
        right = query_id[:, None] == gallery_id
        row = torch.arange(len(queries))[:, None].expand_as(right).flatten()
        rate = RetrievalHitRate(top_k=k)
        rate.update((queries @ gallery.T).flatten(), right.flatten(), indexes=row)
        assert M.share_within(ranks, k) == pytest.approx(rate.compute().item(), abs=1e-6)


def test_planted_retrieval(seeded: torch.Generator) -> None:
    owners, numbers = captioned(seeded)
    eye = torch.eye(40)
    assert M.matched_ranks(eye[owners], eye, owners, numbers)[0].unique().tolist() == [1]
    assert M.matched_ranks(eye, eye[owners], numbers, owners)[0].unique().tolist() == [1]
    same = eye[:1].expand(40, -1)
    assert M.matched_ranks(same[owners], same, owners, numbers)[0].unique().tolist() == [40]
    each = owners.bincount()
    last = M.matched_ranks(same, same[owners], numbers, owners)[0]
    assert last.tolist() == (len(owners) - each + 1).tolist()


@pytest.mark.parametrize("k", [1, 5, 10])
def test_random_retrieval_is_at_chance(k: int, seeded: torch.Generator) -> None:
    each = torch.tensor([1, 2, 5] * 300)
    owners = torch.arange(900).repeat_interleave(each)
    queries, gallery = unit(900, 64, seeded), unit(len(owners), 64, seeded)
    ranks, _ = M.matched_ranks(queries, gallery, torch.arange(900), owners)
    chance = M.retrieval_chance(each, len(owners), k)
    assert M.share_within(ranks, k) == pytest.approx(chance, abs=5 * (chance * (1 - chance) / 900) ** 0.5)


# Calibration


def calibrated(scores: torch.Tensor, labels: torch.Tensor, blocks: int = 1, bins: int = 15) -> Calibration:
    found = Calibration(bins)
    for part, right in zip(scores.chunk(blocks), labels.chunk(blocks), strict=True):
        found.add(part, right)
    return found


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_torchmetrics(bins: int, seeded: torch.Generator) -> None:
    scores, labels = 3 * torch.randn(700, 6, generator=seeded), torch.randint(0, 6, (700,), generator=seeded)
    wanted = multiclass_calibration_error(scores.softmax(1), labels, 6, n_bins=bins, norm="l1").item()
    assert calibrated(scores, labels, 7, bins).ece() == pytest.approx(wanted, abs=1e-6)


def test_calibration_bins_equal_a_slow_loop(seeded: torch.Generator) -> None:
    scores, labels = 2 * torch.randn(300, 4, generator=seeded), torch.randint(0, 4, (300,), generator=seeded)
    confidence, guess = scores.softmax(1).max(1)
    rows = calibrated(scores, labels, 3).bins()
    assert sum(row["count"] for row in rows) == 300
    for m, row in enumerate(rows):
        inside = [i for i, c in enumerate(confidence.tolist()) if m / 15 < c <= (m + 1) / 15]
        assert row["count"] == len(inside)
        assert (row["low"], row["high"]) == pytest.approx((m / 15, (m + 1) / 15))
        if not inside:
            assert row["confidence"] is row["accuracy"] is None
            continue
        assert row["confidence"] == pytest.approx(confidence[inside].mean().item(), abs=1e-6)
        assert row["accuracy"] == pytest.approx((guess == labels)[inside].float().mean().item(), abs=1e-6)


def test_a_confidence_at_an_edge_belongs_to_the_lower_bin() -> None:
    two = torch.zeros(1, 2, dtype=torch.float64)  # confidence 1/2, exactly the edge of two bins
    assert [row["count"] for row in calibrated(two, torch.tensor([0]), bins=2).bins()] == [1, 0]
    sure = torch.tensor([[100.0, 0.0]], dtype=torch.float64)
    assert [row["count"] for row in calibrated(sure, torch.tensor([0]), bins=2).bins()] == [0, 1]


def test_planted_calibration(seeded: torch.Generator) -> None:
    """Sure and right 0, sure and wrong 1, constant 1 / c, labels drawn from the softmax about 0."""
    labels = torch.arange(4000) % 5
    sure = 100 * torch.eye(5)[labels]
    assert calibrated(sure, labels).ece() == pytest.approx(0.0, abs=1e-6)
    assert calibrated(sure, (labels + 1) % 5).ece() == pytest.approx(1.0, abs=1e-6)
    assert calibrated(torch.ones(4000, 5), labels).ece() == pytest.approx(1 / 5, abs=1e-6)
    scores = torch.randn(4000, 5, generator=seeded)
    drawn = scores.softmax(1).multinomial(1, generator=seeded)[:, 0]
    assert calibrated(scores, drawn).ece() < 15 * 0.5 / 4000**0.5 / 2  # sqrt(p(1-p)/n_m) summed over bins
    assert calibrated(3 * scores, drawn).ece() > 0.15  # three times too sure


def test_calibration_counts_ties_and_broken_scores_against_the_model() -> None:
    broken = torch.tensor([[float("nan"), 0.0], [float("nan")] * 2, [float("inf"), 0.0]])
    found = calibrated(broken, torch.tensor([0, 0, 0]))
    assert found.ece() == 1.0
    assert found.bins()[-1] == pytest.approx({**found.bins()[-1], "count": 3, "confidence": 1, "accuracy": 0})
    near = Calibration(tie=1e-3)
    near.add(torch.tensor([[1.0, 0.9995]]), torch.tensor([0]))
    assert near.bins()[7]["accuracy"] == 0.0


def test_calibration_in_half_precision_and_without_images() -> None:
    labels = torch.arange(6) % 3
    for dtype in (torch.float16, torch.bfloat16):
        assert calibrated((8 * torch.eye(3)[labels]).to(dtype), labels).ece() < 1e-3
    empty = Calibration()
    empty.add(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="0 images"):
        empty.ece()
    with pytest.raises(ConfigError, match="bins=0"):
        Calibration(0)


# Average precision


def test_average_precision_equals_scikit_learn(seeded: torch.Generator) -> None:
    scores, labels = torch.randn(300, 7, generator=seeded), torch.rand(300, 7, generator=seeded) < 0.2
    wanted = [sk.average_precision_score(labels[:, c], scores[:, c]) for c in range(7)]
    assert average_precision(scores, labels).numpy() == pytest.approx(np.array(wanted), abs=1e-12)
    blocks = [average_precision(scores[:, c : c + 3], labels[:, c : c + 3].byte()) for c in (0, 3, 6)]
    assert torch.cat(blocks).numpy() == pytest.approx(np.array(wanted), abs=1e-12)


@pytest.mark.parametrize("tie", [0.0, 1.0])
def test_average_precision_with_ties_equals_a_slow_loop(tie: float, seeded: torch.Generator) -> None:
    scores = torch.randint(0, 6, (60, 3), generator=seeded).float()
    labels = torch.rand(60, 3, generator=seeded) < 0.3
    found = average_precision(scores, labels, tie)
    for c in range(3):
        others = scores[~labels[:, c], c].tolist()
        own = sorted(scores[labels[:, c], c].tolist(), reverse=True)
        each = [j / (j + sum(o >= s - tie for o in others)) for j, s in enumerate(own, 1)]
        assert found[c].item() == pytest.approx(sum(each) / len(each), abs=1e-12)
        if not tie:  # the end of a tie is no worse than its worst order
            assert found[c].item() <= sk.average_precision_score(labels[:, c], scores[:, c]) + 1e-12


def test_planted_average_precision(seeded: torch.Generator) -> None:
    """Perfect 1, random the share of the class, constant and reversed the positives at the very end."""
    labels = torch.rand(3000, 4, generator=seeded) < torch.tensor([0.02, 0.1, 0.3, 0.5])
    assert average_precision(labels.float(), labels).tolist() == [1.0] * 4
    random = average_precision(torch.randn(3000, 4, generator=seeded), labels)
    assert random.numpy() == pytest.approx(labels.double().mean(0).numpy(), abs=0.03)
    last = []
    for positives in labels.sum(0).tolist():
        places = np.arange(1, positives + 1)
        last.append(np.mean(places / (3000 - positives + places)))
    noise = 1e-8 * torch.randn(3000, 4, generator=seeded)
    constant = average_precision(torch.full((3000, 4), 0.5) + noise, labels, tie=M.COSINE_TIE)
    assert constant.numpy() == pytest.approx(np.array(last), abs=1e-12)
    assert average_precision(-labels.float(), labels).numpy() == pytest.approx(np.array(last), abs=1e-12)


def test_average_precision_of_a_class_without_images_and_of_broken_scores() -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=torch.uint8)
    found = average_precision(torch.tensor([[float("nan"), 1, 1], [0, 2, 1], [-9, 3, 1]]), labels)
    assert found[[0, 2]].tolist() == pytest.approx([1 / 3, 1.0])
    assert found[1].isnan()
    best = torch.tensor([[float("inf")], [0.0], [float("nan")]])
    assert average_precision(best, torch.tensor([[1], [0], [0]])).item() == pytest.approx(1 / 3)
    half = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float16)
    assert average_precision(half, torch.eye(2).bool()).tolist() == [1.0, 1.0]
