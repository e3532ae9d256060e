import numpy as np
import pytest
import torch

from patchclip.errors import DataError
from patchclip.evaluation import _top1
from tests.evaluation._fakes import labelled

CPU = torch.device("cpu")
NAN = float("nan")


def unit(*rows: list[float]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


def test_hits_and_guesses_agree_with_argmax_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_top1, "BLOCK_SCORES", 14)  # two rows a block
    generator = torch.Generator().manual_seed(0)
    images, classes = (torch.randn(n, 5, generator=generator) for n in (11, 7))
    labels = torch.arange(11) % 7
    best = (images @ classes.T).argmax(1)
    assert torch.equal(_top1.guesses(images, classes, CPU), best)
    assert torch.equal(_top1.hits(images, classes, labels, CPU), best == labels)
    assert torch.equal(_top1.drawn_to(images, classes, labels, CPU), best == labels)


def test_ties_count_against_the_model() -> None:
    images, classes = unit([1.0, 1.0]), torch.eye(2)
    label = torch.tensor([0])
    assert not _top1.hits(images, classes, label, CPU).any()
    assert _top1.drawn_to(images, classes, label, CPU).all()
    assert _top1.guesses(images, classes, CPU).tolist() == [_top1.UNDECIDED]


def test_scores_within_the_width_of_a_tie_are_tied() -> None:
    images, labels = torch.ones(2, 1), torch.tensor([0, 0])
    for gap, tied in ((5e-7, True), (5e-6, False)):
        classes = torch.tensor([[0.5 + gap], [0.5]])
        guess = _top1.UNDECIDED if tied else 0
        assert _top1.guesses(images, classes, CPU).tolist() == [guess] * 2
        assert _top1.hits(images, classes, labels, CPU).tolist() == [not tied] * 2
        assert _top1.drawn_to(images, classes, labels + 1, CPU).tolist() == [tied] * 2


def test_what_is_no_number_counts_against_the_model() -> None:
    images, classes = torch.tensor([[NAN, 1.0]]), torch.eye(2)
    for label in (0, 1):
        assert not _top1.hits(images, classes, torch.tensor([label]), CPU).any()
        assert _top1.drawn_to(images, classes, torch.tensor([label]), CPU).all()
    assert _top1.guesses(images, classes, CPU).tolist() == [_top1.UNDECIDED]


def test_a_single_class_is_always_chosen() -> None:
    assert _top1.guesses(unit([0.3, 1.0]), unit([1.0, 0.0]), CPU).tolist() == [0]


@pytest.mark.parametrize("wrong", [-1, 2])
def test_a_label_without_a_class_is_refused(wrong: int) -> None:
    benchmark = labelled([0, wrong], ("a", "b"))
    with pytest.raises(DataError, match=rf"label {wrong} must be in \[0, 1\]"):
        _top1.labels_of(benchmark, torch.arange(2))
    assert _top1.labels_of(benchmark, torch.tensor([0])).tolist() == [0]
    assert benchmark.labels.dtype == np.int64
