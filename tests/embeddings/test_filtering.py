"""A filter keeps the best share, in the order of the rows."""

import pytest
import torch

from patchclip.embeddings.filtering import kept
from patchclip.errors import ConfigError, DataError

SCORES = torch.tensor([0.3, 0.9, 0.1, 0.9, 0.5])


@pytest.mark.parametrize(
    "share, rows", [(0.2, [1]), (0.4, [1, 3]), (0.6, [1, 3, 4]), (0.79, [1, 3, 4]), (1.0, [0, 1, 2, 3, 4])]
)
def test_the_best_share_is_kept(share: float, rows: list[int]) -> None:
    assert kept(SCORES, share).tolist() == rows


def test_one_is_kept_at_least_and_the_first_of_equals() -> None:
    assert kept(SCORES, 0.01).tolist() == [1]
    assert kept(torch.ones(10), 0.3).tolist() == [0, 1, 2]
    assert kept(torch.rand(100, generator=torch.Generator().manual_seed(0)), 0.29).shape == (29,)


def test_wrong_shares_and_scores_are_refused() -> None:
    for share in (0.0, 1.1, -1.0):
        with pytest.raises(ConfigError, match=f"share={share} must be in"):
            kept(SCORES, share)
    with pytest.raises(DataError, match="5 scores, 1 of them NaN"):
        kept(torch.where(SCORES == 0.1, torch.nan, SCORES), 0.5)
    with pytest.raises(DataError, match="0 scores"):
        kept(SCORES[:0], 0.5)
