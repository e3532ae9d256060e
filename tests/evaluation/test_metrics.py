from math import comb, inf, nan

import pytest
import torch

from patchclip.errors import ConfigError, DataError
from patchclip.evaluation import _metrics as M


def top_k_accuracy(scores: torch.Tensor, labels: torch.Tensor, k: int) -> float:
    """As the zero-shot suite computes it."""
    return M.share_within(M.label_ranks(scores, labels), k)


def recall_at_k(similarity: torch.Tensor, positive: torch.Tensor, k: int) -> float:
    """As the retrieval suite computes it, without embeddings."""
    return M.share_within(M.positive_ranks(similarity, positive), k)


def test_label_ranks_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.2, 0.2, 0.1]])
    assert M.label_ranks(scores, torch.tensor([0, 1, 2])).tolist() == [1, 3, 3]
    assert M.label_ranks(scores, torch.tensor([2, 0, 0])).tolist() == [
        2,
        1,
        2,
    ]  # the last is tied with class 1


@pytest.mark.parametrize("k,expected", [(1, 0.25), (2, 0.5), (3, 1.0)])
def test_top_k_accuracy_by_hand(k: int, expected: float) -> None:
    scores = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [3, 2, 1]])
    assert top_k_accuracy(scores, torch.tensor([0, 1, 2, 2]), k) == expected


def test_top_k_accuracy_equals_a_slow_loop(seeded: torch.Generator) -> None:
    scores = torch.randint(0, 6, (60, 9), generator=seeded).float()  # many ties
    labels = torch.randint(0, 9, (60,), generator=seeded)
    for k in range(1, 10):
        hits = 0
        for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
            others = [s for c, s in enumerate(row) if c != label]
            hits += sum(s >= row[label] for s in others) < k
        assert top_k_accuracy(scores, labels, k) == pytest.approx(hits / 60)


@pytest.mark.parametrize("value", [0.0, 1.0, nan, inf, -inf])
def test_a_collapsed_or_broken_model_never_scores(value: float) -> None:
    scores, labels = torch.full((12, 4), value), torch.arange(12) % 4
    assert top_k_accuracy(scores, labels, 1) == 0.0
    assert top_k_accuracy(scores, labels, 3) == 0.0
    assert recall_at_k(torch.full((4, 4), value), torch.eye(4, dtype=torch.bool), 3) == 0.0


def test_a_score_that_is_not_a_number_counts_against_the_model() -> None:
    assert M.label_ranks(torch.tensor([[0.5, nan, 0.1]]), torch.tensor([0])).tolist() == [2]
    assert M.label_ranks(torch.tensor([[nan, 0.2, 0.1]]), torch.tensor([0])).tolist() == [4]
    similarity = torch.tensor([[0.5, nan, 0.1]])
    assert M.positive_ranks(similarity, torch.tensor([[True, False, False]])).tolist() == [2]
    assert M.positive_ranks(similarity, torch.tensor([[False, True, False]])).tolist() == [4]


def test_scores_within_the_tie_are_tied() -> None:
    scores = torch.tensor([[0.5, 0.5 - 1e-7, 0.4]], dtype=torch.float64)
    assert M.label_ranks(scores, torch.tensor([0])).tolist() == [1]
    assert M.label_ranks(scores, torch.tensor([0]), tie=1e-6).tolist() == [2]
    right = torch.tensor([[True, False, False]])
    assert M.positive_ranks(scores, right).tolist() == [1]
    assert M.positive_ranks(scores, right, tie=0.2).tolist() == [3]


def test_rounding_does_not_order_a_collapsed_model(seeded: torch.Generator) -> None:
    """One direction for everything: float32 products differ in the last digit, which must not count."""
    same = torch.nn.functional.normalize(torch.randn(1, 192, generator=seeded), dim=1).expand(61, -1)
    same = same * (1 + 1e-7 * torch.randn(61, 1, generator=seeded))
    ranks, _ = M.matched_ranks(same, same, torch.arange(61), torch.arange(61))
    assert ranks.tolist() == [61] * 61


def test_top_k_accuracy_in_half_precision() -> None:
    scores = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    for dtype in (torch.bfloat16, torch.float16):
        assert top_k_accuracy(scores.to(dtype), torch.tensor([0, 1]), 1) == 1.0


def test_mean_per_class_recall_weighs_classes_not_images() -> None:
    ranks, labels = torch.tensor([1, 1, 1, 2, 3, 1]), torch.tensor([0, 0, 0, 0, 7, 5])
    assert M.class_recall(ranks, labels)[1].mean().item() == pytest.approx((3 / 4 + 0 + 1) / 3)


def test_positive_ranks_take_the_best_of_several_and_lose_ties() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.8], [0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4]])
    positive = torch.tensor([[False, True, True, False], [True, True, False, False], [False] * 4])
    assert M.positive_ranks(similarity, positive).tolist() == [3, 3, 5]


def test_recall_at_k_equals_a_slow_loop(seeded: torch.Generator) -> None:
    similarity = torch.randint(0, 8, (30, 12), generator=seeded).float()
    positive = torch.rand(30, 12, generator=seeded) < 0.2
    for k in (1, 3, 12):
        hits = 0
        for row, right in zip(similarity.tolist(), positive.tolist(), strict=True):
            order = sorted(range(12), key=lambda j: (-row[j], right[j]))  # wrong before right at a tie
            hits += any(right[j] for j in order[:k])
        assert recall_at_k(similarity, positive, k) == pytest.approx(hits / 30)


@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_matched_ranks_do_not_depend_on_the_block(
    block: int, seeded: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(M, "BLOCK_SCORES", block)
    queries, gallery = torch.randn(13, 4, generator=seeded), torch.randn(10, 4, generator=seeded)
    query_id = torch.randint(0, 5, (13,), generator=seeded)
    gallery_id = torch.randint(0, 4, (10,), generator=seeded)
    similarity = queries @ gallery.T
    ranks, best = M.matched_ranks(queries, gallery, query_id, gallery_id, top=3)
    assert ranks.tolist() == M.positive_ranks(similarity, query_id[:, None] == gallery_id).tolist()
    assert best.tolist() == similarity.argsort(dim=1, descending=True)[:, :3].tolist()


def test_matched_ranks_without_queries_and_with_a_small_gallery() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    ranks, best = M.matched_ranks(torch.zeros(0, 4), torch.ones(3, 4), none, torch.arange(3), top=5)
    assert ranks.shape == (0,)
    assert best.shape == (0, 3)


def test_retrieval_chance_is_the_closed_form_and_what_random_orders_give(seeded: torch.Generator) -> None:
    positives, gallery, k = torch.tensor([1, 3, 0, 9]), 10, 4
    exact = sum(1 - comb(gallery - p, k) / comb(gallery, k) for p in positives.tolist()) / 4
    assert M.retrieval_chance(positives, gallery, k) == pytest.approx(exact, abs=1e-12)
    positive = torch.arange(gallery) < positives[:, None]
    drawn = [recall_at_k(torch.rand(4, gallery, generator=seeded), positive, k) for _ in range(2000)]
    assert sum(drawn) / len(drawn) == pytest.approx(exact, abs=0.02)


def test_chance_of_one_right_entry_is_k_over_the_gallery() -> None:
    assert M.retrieval_chance(torch.ones(3, dtype=torch.int64), 475, 5) == pytest.approx(5 / 475)
    assert M.classification_chance(14, 5) == pytest.approx(5 / 14)


@pytest.mark.parametrize("k", [0, 4])
def test_k_outside_the_choice_is_refused(k: int) -> None:
    with pytest.raises(ConfigError, match=rf"k={k} must be in \[1, 3\]"):
        M.classification_chance(3, k)
    with pytest.raises(ConfigError, match=rf"k={k} must be in \[1, 3\]"):
        M.retrieval_chance(torch.ones(2, dtype=torch.int64), 3, k)


def test_no_image_is_an_error_not_a_nan() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(DataError):
        M.share_within(none, 1)
    with pytest.raises(DataError):
        M.class_recall(none, none)
