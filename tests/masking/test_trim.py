"""The TRIM masker, against brute force."""

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking.trim import TrimMask
from tests.masking._images import noise, rng, tokens


def guided(score: Tensor, **options: object) -> TrimMask:
    """A masker whose scores are given."""
    masker = TrimMask(**options)  # type: ignore[arg-type]
    masker.scorer = lambda pixels, patches: score
    return masker


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.99])
def test_it_keeps_the_k_best(sign: int, ratio: float) -> None:
    score = torch.rand(4, 49, generator=rng(1))
    masker = guided(score, sign=sign, mask_ratio=ratio)
    keep = masker.select(noise(4, 28), tokens(4, 49), 0.5, rng())
    kept = masker.kept(49, 0.5)
    for row, found in zip(score.tolist(), keep.tolist(), strict=True):
        assert found == sorted(sorted(range(49), key=lambda i, row=row: -sign * row[i])[:kept])


def test_the_two_signs_keep_opposite_halves() -> None:
    score = torch.rand(2, 16, generator=rng(2))
    most, least = (
        guided(score, sign=sign).select(noise(2, 16), tokens(2, 16), 0.5, rng()) for sign in (1, -1)
    )
    assert torch.cat([most, least], dim=1).sort(dim=1).values.tolist() == [list(range(16))] * 2


def test_equal_scores_are_kept_by_chance() -> None:
    keep = guided(torch.ones(400, 4)).select(noise(400, 8), tokens(400, 4), 0.5, rng(3))
    assert len(set(map(tuple, keep.tolist()))) == 6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_in_half_precision(dtype: torch.dtype) -> None:
    score = torch.arange(16.0).repeat(2, 1).to(dtype)
    keep = guided(score).select(noise(2, 16), tokens(2, 16), 0.5, rng())
    assert keep.tolist() == [list(range(8, 16))] * 2


def test_one_patch_is_kept() -> None:
    keep = guided(torch.ones(1, 1)).select(noise(1, 4), tokens(1, 1), 0.5, rng())
    assert keep.tolist() == [[0]]


def test_without_scores_it_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"Guide\(model, score='text'\)"):
        TrimMask().select(noise(1, 16), tokens(1, 16), 0.5, rng())


def test_a_sign_is_one_of_two() -> None:
    with pytest.raises(ConfigError, match="sign=0"):
        TrimMask(sign=0)
