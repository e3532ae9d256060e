"""The order in which pairs are seen: one endless sequence that depends on the seed alone."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Place = tuple[int, int, int]
"""Epoch, index, and the number of the reading that holds at its step."""


def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of epoch `epoch`: a uniform permutation of 0..n-1 drawn from (seed, epoch).

    Args:
        seed: At least 0.
        epoch: At least 0.
        n: Number of pairs.

    Returns:
        int64 [n].
    """
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(n)


def draws(seed: int, epoch: int, index: int) -> tuple[int, int, int]:
    """Three independent uniform integers in [0, 2**64) for one sample in one epoch.

    The first seeds the augmentation, the second chooses the caption, the third seeds what shortens it and
    what its companions draw.
    """
    words = np.random.SeedSequence([seed, epoch, index]).generate_state(3, np.uint64)
    return int(words[0]), int(words[1]), int(words[2])


class Seeded:
    """Seeds torch's CPU generator inside a block and restores it after; a GPU's generator is left alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> None:
        self._state = torch.default_generator.get_state()
        torch.default_generator.manual_seed(self._seed)

    def __exit__(self, *error: object) -> None:
        torch.default_generator.set_state(self._state)


class Order:
    """The endless concatenation of the permutations of epochs 0, 1, 2, ...

    Step s of a run with global batch B takes positions s*B to (s+1)*B - 1, so that every pair is seen once
    in each epoch, batches run across the ends of epochs, and the step number alone says where to resume.

    Args:
        seed: At least 0.
        n: Number of pairs, at least 1.
    """

    def __init__(self, seed: int, n: int) -> None:
        self._seed = seed
        self._n = n
        self._epoch = -1
        self._permutation: NDArray[np.int64] = np.empty(0, np.int64)

    def slice(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The (epoch, index) pairs at positions start to stop - 1 of the sequence."""
        found: list[tuple[int, int]] = []
        while start < stop:
            epoch, first = divmod(start, self._n)
            last = min(self._n, first + stop - start)
            found += [(epoch, int(i)) for i in self._of(epoch)[first:last]]
            start += last - first
        return found

    def batch(self, step: int, batch: int, rank: int = 0, world_size: int = 1) -> list[tuple[int, int]]:
        """The part of rank `rank` of global step `step`: `batch` positions of a global batch.

        Args:
            step: Global step, from 0.
            batch: Pairs of one rank in one step; the global batch is `batch * world_size`.
            rank: This process, from 0.
            world_size: Number of processes.

        Returns:
            `batch` tuples (epoch, index). Ranks 0, 1, ... put together give the global batch in its order.
        """
        start = (step * world_size + rank) * batch
        return self.slice(start, start + batch)

    def _of(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            self._permutation, self._epoch = permutation(self._seed, epoch, self._n), epoch
        return self._permutation


class Steps:
    """The endless batches of places from one step on.

    Args:
        order: Of the pairs.
        part: Pairs of one rank in a step, the rank, the number of ranks.
        start: First step.
        first_steps: The steps from which each reading holds, rising from 0.
    """

    def __init__(
        self, order: Order, part: tuple[int, int, int], start: int, first_steps: Sequence[int]
    ) -> None:
        self._order, self._part = order, part
        self._start, self._first_steps = start, first_steps

    def __iter__(self) -> Iterator[list[Place]]:
        step = self._start
        while True:
            reading = bisect_right(self._first_steps, step) - 1
            yield [(epoch, index, reading) for epoch, index in self._order.batch(step, *self._part)]
            step += 1
