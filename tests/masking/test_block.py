"""Blocks of patches, kept (CLIPA) or dropped (MAE), against loops over single images."""

import math

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._blocks import DRAWS, STEPS
from patchclip.masking.block import BlockMask
from tests.masking._images import dropped, noise, rng, tokens

GRIDS = [(14, 14), (7, 7), (3, 8), (1, 5), (1, 1)]
RATIOS = [0.0, 0.1, 0.5, 0.75, 0.9]


def one_block(area: int, draw: list[float], gh: int, gw: int, aspect: float) -> tuple[set[int], float, float]:
    """A block of `area` patches, column after column from one of its corners; and its centre."""
    if area == 0:
        height, width = 1, 0
    else:
        ratio = math.exp(math.log(aspect) + draw[0] * (math.log(1 / aspect) - math.log(aspect)))
        height = round(math.sqrt(area * ratio))
        height = min(max(height, math.ceil(area / gw)), gh, area)
        width = math.ceil(area / height)
    top, left = int(draw[1] * (gh - height + 1)), int(draw[2] * (gw - width + 1))
    rows = list(range(top, top + height))
    columns = list(range(left, left + width))
    if draw[3] >= 0.5:
        rows.reverse()
    if draw[4] >= 0.5:
        columns.reverse()
    cells = [row * gw + column for column in columns for row in rows]
    return set(cells[:area]), top + (height - 1) / 2, left + (width - 1) / 2


def many_blocks(
    area: int, draws: list[list[float]], grid: tuple[int, int], smallest: int
) -> tuple[set[int], set[int]]:
    """What BEiT's algorithm 1 masks; and where it does not finish, the patches nearest to the last block."""
    gh, gw = grid
    masked: set[int] = set()
    for draw in draws:
        wanted = area - len(masked)
        low = min(smallest, wanted)
        size = low + int(draw[5] * (wanted - low + 1))
        block, row, column = one_block(size, draw, gh, gw, 0.3)
        masked |= block
    free = [patch for patch in range(gh * gw) if patch not in masked]
    free.sort(key=lambda patch: math.hypot(patch // gw - row, patch % gw - column))
    return masked, set(free[: area - len(masked)])


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("grid", GRIDS)
def test_the_kept_block_is_that_of_the_loop(grid: tuple[int, int], ratio: float) -> None:
    (gh, gw), b = grid, 12
    keep = BlockMask(ratio).select(torch.zeros(b, 3, 4 * gh, 4 * gw), tokens(b, gh * gw), 0.0, rng(1))
    draws = torch.rand(b, DRAWS, generator=rng(1)).tolist()
    k = max(1, int(gh * gw * (1 - ratio) + 1e-6))
    assert keep.tolist() == [sorted(one_block(k, draw, gh, gw, 0.3)[0]) for draw in draws]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (3, 8)])
def test_the_dropped_blocks_are_those_of_the_loop(grid: tuple[int, int], ratio: float) -> None:
    (gh, gw), b = grid, 12
    masker = BlockMask(ratio, blocks="dropped")
    keep = masker.select(torch.zeros(b, 3, 4 * gh, 4 * gw), tokens(b, gh * gw), 0.0, rng(1))
    draws = torch.rand(b, STEPS * DRAWS, generator=rng(1)).unflatten(1, (STEPS, DRAWS)).tolist()
    drop = gh * gw - max(1, int(gh * gw * (1 - ratio) + 1e-6))
    smallest = max(1, round(0.08 * gh * gw))
    for kept, numbers in zip(keep.tolist(), draws, strict=True):
        blocks, rest = many_blocks(drop, numbers, grid, smallest)
        found = set(range(gh * gw)) - set(kept)
        assert blocks <= found
        assert len(found) == drop
        assert len(found ^ (blocks | rest)) <= 2, "patches at one distance may change places"


def parts(mask: Tensor) -> int:
    """Connected parts of a mask [gh, gw], by neighbours across and down."""
    left = {(int(r), int(c)) for r, c in mask.nonzero()}
    count = 0
    while left:
        count, edge = count + 1, [left.pop()]
        while edge:
            r, c = edge.pop()
            beside = {(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)} & left
            left -= beside
            edge += beside
    return count


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.62, 0.75])
def test_what_is_seen_is_one_block(ratio: float) -> None:
    """The law of the paper: a single block is kept, as high as 1 / 0.3 times its width or the reverse."""
    keep = BlockMask(ratio).select(noise(40, 56), tokens(40, 196), 0.0, rng(2))
    for seen in ~dropped(keep, 196).unflatten(1, (14, 14)):
        assert parts(seen) == 1
        rows, columns = int(seen.any(dim=1).sum()), int(seen.any(dim=0).sum())
        assert 0 <= rows * columns - keep.shape[1] < rows, "only one column is incomplete"
        assert 0.2 < rows / columns < 5


def test_dropped_blocks_are_few_and_large() -> None:
    masker = BlockMask(0.5, blocks="dropped")
    mask = dropped(masker.select(noise(60, 56), tokens(60, 196), 0.0, rng(3)), 196).unflatten(1, (14, 14))
    by_chance = torch.rand(60, 196, generator=rng()).argsort(dim=1).argsort(dim=1).view(60, 14, 14) < 98
    assert sum(map(parts, mask)) < 0.15 * sum(map(parts, by_chance))


@pytest.mark.parametrize("blocks", ["kept", "dropped"])
def test_blocks_lie_anywhere(blocks: str) -> None:
    """No side of the image is preferred: the share dropped is the same above and below, left and right."""
    keep = BlockMask(0.5, blocks=blocks).select(noise(2000, 40), tokens(2000, 100), 0.0, rng(4))
    share = dropped(keep, 100).float().unflatten(1, (10, 10))
    for halves in (share[:, :5] - share[:, 5:].flip(1), share[:, :, :5] - share[:, :, 5:].flip(2)):
        difference = halves.mean(dim=(1, 2))
        assert abs(float(difference.mean())) < 4 * float(difference.std()) / 2000**0.5


@pytest.mark.parametrize("blocks", ["kept", "dropped"])
def test_half_precision_changes_nothing(blocks: str) -> None:
    masker = BlockMask(0.5, blocks=blocks)
    expected = masker.select(noise(2, 28), tokens(2, 49), 0.0, rng())
    assert torch.equal(masker.select(noise(2, 28).half(), tokens(2, 49).half(), 0.0, rng()), expected)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"blocks": "seen"}, "blocks='seen' must be one of kept, dropped"),
        ({"min_aspect": 0.0}, "min_aspect=0.0 must be in"),
        ({"min_aspect": 1.5}, "min_aspect=1.5 must be in"),
        ({"smallest": 0.0}, "smallest=0.0 must be in"),
        ({"smallest": 2.0}, "smallest=2.0 must be in"),
        ({"mask_ratio": 1.0}, "mask_ratio=1.0"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, float | str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BlockMask(**options)  # type: ignore[arg-type]
