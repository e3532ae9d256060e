"""The attentive masker, against a slow reference and the law of its paper."""

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking.attentive import AttentiveMask
from tests.masking._images import noise, rng, tokens


def guided(score: Tensor, **options: object) -> AttentiveMask:
    """A masker whose scores are given."""
    masker = AttentiveMask(**options)  # type: ignore[arg-type]
    masker.scorer = lambda pixels, patches: score
    return masker


def reference(score: list[float], grid: tuple[int, int], side: int, kept: int) -> list[int]:
    """Cells by falling mean, in each the patches by falling score, until `kept` are taken: plain loops."""
    rows, columns = grid
    cells: dict[tuple[int, int], list[int]] = {}
    for row in range(rows):
        for column in range(columns):
            cells.setdefault((row // side, column // side), []).append(row * columns + column)
    ordered = sorted(cells.values(), key=lambda members: -sum(score[i] for i in members) / len(members))
    taken = [i for members in ordered for i in sorted(members, key=lambda i: -score[i])]
    return sorted(taken[:kept])


@pytest.mark.parametrize("cells", [1, 2, 3])
@pytest.mark.parametrize("grid", [(8, 8), (7, 7), (4, 6), (1, 5), (1, 1)])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.9])
def test_it_equals_the_reference(grid: tuple[int, int], cells: int, ratio: float) -> None:
    rows, columns = grid
    score = torch.rand(3, rows * columns, generator=rng(4))
    masker = guided(score, cells=cells, mask_ratio=ratio)
    pixels = torch.zeros(3, 3, 4 * rows, 4 * columns)
    keep = masker.select(pixels, tokens(3, rows * columns), 0.5, rng())
    kept = masker.kept(rows * columns, 0.5)
    assert keep.tolist() == [reference(row.tolist(), grid, cells, kept) for row in score]


def test_whole_cells_of_two_by_two_are_kept_as_released() -> None:
    """On 14 x 14 patches: 24 whole cells and the better half of the 25th."""
    score = torch.rand(5, 196, generator=rng(1))
    keep = guided(score).select(noise(5, 56), tokens(5, 196), 0.5, rng())
    seen = torch.zeros(5, 196).scatter_(1, keep, 1.0).unflatten(1, (7, 2, 7, 2)).sum(dim=(2, 4)).flatten(1)
    assert keep.shape[1] == 98
    assert [int(x) for x in (seen == 4).sum(dim=1)] == [24] * 5
    assert [int(x) for x in (seen == 2).sum(dim=1)] == [1] * 5


def test_kept_patches_hold_more_attention_than_a_random_half() -> None:
    score = torch.rand(16, 196, generator=rng(2)).pow(4)
    share = score / score.sum(dim=1, keepdim=True)
    keep = guided(share).select(noise(16, 56), tokens(16, 196), 0.5, rng())
    alone = guided(share, cells=1).select(noise(16, 56), tokens(16, 196), 0.5, rng())
    mass, most = share.gather(1, keep).sum(dim=1), share.gather(1, alone).sum(dim=1)
    assert (mass > 0.55).all()
    assert (most >= mass).all()


def test_equal_scores_are_kept_by_chance() -> None:
    keep = guided(torch.zeros(400, 16)).select(noise(400, 16), tokens(400, 16), 0.5, rng(3))
    counts = torch.zeros(400, 16).scatter_(1, keep, 1.0).mean(dim=0)
    assert (counts - 0.5).abs().max() < 0.12
    assert len(set(map(tuple, keep.tolist()))) == 6  # two of four cells


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_in_half_precision(dtype: torch.dtype) -> None:
    score = torch.arange(16.0).repeat(2, 1)
    found = guided(score.to(dtype)).select(noise(2, 16), tokens(2, 16), 0.5, rng())
    assert torch.equal(found, guided(score).select(noise(2, 16), tokens(2, 16), 0.5, rng()))


def test_without_scores_it_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"set masker\.scorer"):
        AttentiveMask().select(noise(1, 16), tokens(1, 16), 0.5, rng())


@pytest.mark.parametrize(
    "option, value",
    [
        ("score", "colour"),
        ("cells", 0),
        ("resolution", 0.0),
        ("resolution", 1.5),
        ("layers", 0),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("mask_ratio", 1.0),
    ],
)
def test_values_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        AttentiveMask(**{option: value})  # type: ignore[arg-type]
