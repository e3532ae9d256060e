"""Laws of the order: complete epochs, resumable anywhere, the same for any number of ranks."""

import numpy as np
import pytest

from patchclip.data._order import Order, draws, permutation


def test_permutation_depends_on_seed_and_epoch_alone() -> None:
    first = permutation(1, 2, 100)
    assert sorted(first.tolist()) == list(range(100))
    assert first.dtype == np.int64
    assert first.tolist() == permutation(1, 2, 100).tolist()
    assert first.tolist() != permutation(1, 3, 100).tolist()
    assert first.tolist() != permutation(2, 2, 100).tolist()
    assert permutation(0, 0, 1).tolist() == [0]


def test_permutations_are_uniform_over_the_six_orders_of_three() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(1200):
        order = tuple(permutation(5, epoch, 3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert max(abs(count - 200) for count in counts.values()) < 5 * (1200 / 6 * 5 / 6) ** 0.5


@pytest.mark.parametrize("n, batch", [(10, 3), (10, 10), (7, 16), (1, 4), (12, 4)])
def test_every_epoch_shows_every_pair_once(n: int, batch: int) -> None:
    order = Order(0, n)
    positions = [position for step in range(3 * n) for position in order.batch(step, batch)]
    for epoch in range(3):
        shown = [index for at, index in positions if at == epoch]
        assert shown == permutation(0, epoch, n).tolist()
    assert [epoch for epoch, _ in positions] == [place // n for place in range(len(positions))]


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_together_give_the_global_batch(world_size: int) -> None:
    for step in (0, 1, 4, 11):
        whole = Order(9, 13).batch(step, 6)
        parts = [Order(9, 13).batch(step, 6 // world_size, rank, world_size) for rank in range(world_size)]
        assert [position for part in parts for position in part] == whole


def test_any_step_can_be_asked_first() -> None:
    order = Order(4, 11)
    unbroken = [order.batch(step, 4) for step in range(9)]
    assert [Order(4, 11).batch(step, 4) for step in reversed(range(9))] == unbroken[::-1]


def test_draws_differ_in_every_argument_and_repeat() -> None:
    places = [(s, e, i) for s in range(3) for e in range(3) for i in range(50)]
    found = [draws(*place) for place in places]
    assert found == [draws(*place) for place in places]
    assert len({word for words in found for word in words}) == 3 * len(places)
    assert all(0 <= word < 2**64 for words in found for word in words)
