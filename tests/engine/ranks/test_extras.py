"""Rows that a loss wants beside the embeddings are those of all ranks."""

from tests.engine import _ranks


def test_two_ranks_give_the_loss_and_gradients_of_one_process() -> None:
    _ranks.run("tests.engine._extras_ranks")
