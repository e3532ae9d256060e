"""Training that does not learn is said in words, once."""

import logging
import math

import pytest

from patchclip.config import TrainConfig
from patchclip.engine.safety.watch import WINDOW, LossWatch, loss_watch
from patchclip.errors import TrainingError
from patchclip.losses.euclip import EuCLIPLoss

CHANCE = math.log(64)


def run(watch: LossWatch, losses: list[float], first: int = 100) -> None:
    for step, loss in enumerate(losses, first):
        watch.see(step, loss, 0, 0)


def test_guessing_is_said_once_and_in_words(caplog: pytest.LogCaptureFixture) -> None:
    run(LossWatch(CHANCE, 100, 20), [CHANCE] * (3 * WINDOW))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "ln(batch)" not in record.getMessage()  # of some losses it is another number
    for part in ("4.159", "guessing", "captions fit their images", "optim.lr", "optim.warmup_steps"):
        assert part in record.getMessage()


@pytest.mark.parametrize(("weight", "warnings"), [(0.1, 0), (0.0, 1)])
def test_only_a_loss_that_knows_guessing_is_warned_of(
    weight: float, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    watch = loss_watch(TrainConfig(), EuCLIPLoss(entailment_weight=weight))
    run(watch, [20.0] * WINDOW, first=watch.patience)
    assert len(caplog.records) == warnings


@pytest.mark.parametrize("loss", [0.991 * CHANCE, 1.5 * CHANCE])
def test_near_or_above_chance_is_guessing(loss: float, caplog: pytest.LogCaptureFixture) -> None:
    run(LossWatch(CHANCE, 100, 20), [loss] * WINDOW)
    assert len(caplog.records) == 1


def test_no_warning_while_it_learns_or_is_too_early(caplog: pytest.LogCaptureFixture) -> None:
    run(LossWatch(CHANCE, 100, 20), [CHANCE - 0.01 * i for i in range(50)])  # sinks
    run(LossWatch(CHANCE, 100, 20), [CHANCE] * (WINDOW - 1))  # too few lines
    run(LossWatch(CHANCE, 100, 20), [CHANCE] * 50, first=0)  # within its patience
    run(LossWatch(CHANCE, 100, 20), [CHANCE, 0.5 * CHANCE] * 30)  # one good line in each window
    run(LossWatch(None, 100, 20), [9.0] * 50)  # no such value for this loss
    assert not caplog.records


def test_a_plateau_after_the_patience_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    run(LossWatch(CHANCE, 100, 20), [CHANCE] * 60, first=50)
    (record,) = caplog.records
    assert "guessing" in record.getMessage()


def test_non_finite_losses_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = LossWatch(CHANCE, 0, 20)
    watch.see(7, math.nan, 1, 1)
    watch.see(8, math.inf, 2, 2)
    watch.see(9, 0.5, 0, 2)
    (record,) = caplog.records
    assert "by step 7: 1 updates skipped" in record.getMessage()
    assert list(watch.window) == [0.5]


def test_a_skipped_update_between_two_lines_is_said_too(caplog: pytest.LogCaptureFixture) -> None:
    LossWatch(CHANCE, 0, 20).see(10, 0.5, 0, 3)
    assert "3 updates skipped" in caplog.text


def test_what_an_earlier_run_skipped_is_not_said_again(caplog: pytest.LogCaptureFixture) -> None:
    watch = LossWatch(CHANCE, 0, 20, known=3)
    watch.see(10, 0.5, 0, 3)
    assert not caplog.records
    watch.see(20, 0.5, 0, 4)
    assert "4 updates skipped" in caplog.text


def test_too_many_bad_updates_in_a_row_stop_training() -> None:
    watch = LossWatch(CHANCE, 0, 4)
    watch.see(4, 1.0, 4, 9)
    with pytest.raises(
        TrainingError, match=r"5 updates in a row .*step 5.*optim\.lr.*last checkpoint is good"
    ):
        watch.see(5, 1.0, 5, 10)


def test_what_was_not_finite_is_named_in_the_warning_and_in_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = LossWatch(CHANCE, 0, 1)
    watch.hear("text embedding (first in data flow)")
    watch.hear("")
    watch.see(1, 1.0, 1, 1)
    assert "1 updates skipped so far; text embedding (first in data flow)" in caplog.text
    with pytest.raises(TrainingError, match=r"2 updates in a row .*the first: text embedding .*optim\.lr"):
        watch.see(2, 1.0, 2, 2)


def test_an_error_without_an_origin_says_so() -> None:
    with pytest.raises(TrainingError, match="their origin is not known"):
        LossWatch(CHANCE, 0, 1).see(2, 1.0, 2, 2)
