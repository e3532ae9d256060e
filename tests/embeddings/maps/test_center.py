"""Centring moves the mean, and nothing else."""

import torch

from patchclip.embeddings.maps.center import Center
from tests.embeddings._rows import rows


def test_the_mean_goes_to_zero_or_to_that_of_the_target() -> None:
    x, y = rows(40), rows(7, seed=1)
    torch.testing.assert_close(Center().fit(x).apply(x).mean(0), torch.zeros(6).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(Center().fit(x, y).apply(x).mean(0), y.mean(0))


def test_distances_stay() -> None:
    x = rows(9)
    torch.testing.assert_close(torch.pdist(Center().fit(x).apply(x)), torch.pdist(x))


def test_the_gap_of_pairs_is_closed() -> None:
    image, text = rows(40), rows(40) + 3
    moved = Center().fit(image, text).apply(image)
    torch.testing.assert_close(moved, text)
