"""From cells to pixels: equal to interpolating everything, whatever the tiles and chunks."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip.dense import _upsample
from patchclip.dense._upsample import Layer, Reader, able, every_pixel, probability

SIZES = [((3, 4), (24, 40)), ((14, 21), (150, 230)), ((1, 1), (3, 5)), ((5, 7), (2, 3)), ((1, 6), (1, 1))]


def layer(n: int, gh: int, gw: int, seed: int = 0) -> Layer:
    scores = torch.randn(n, gh, gw, generator=torch.Generator().manual_seed(seed))
    return Layer(scores, torch.arange(n), (gh * 8, gw * 8), 8, 8)


def read(reader: Reader, **asked: bool) -> dict[str, Tensor]:
    """All tiles put together."""
    found = {name: torch.zeros(reader.size) for name in ("name", "confidence", "entropy")}
    for tile in reader.tiles():
        best = reader.read(tile, **asked)
        where = (slice(tile.top, tile.bottom), slice(tile.left, tile.right))
        found["name"][where] = best.name.float()
        if asked.get("probabilities") or asked.get("entropy"):
            found["confidence"][where] = best.confidence
        if asked.get("entropy"):
            found["entropy"][where] = best.entropy
    return found


@pytest.mark.parametrize(("grid", "size"), SIZES)
def test_bilinear_scores_are_those_of_torch(grid: tuple[int, int], size: tuple[int, int]) -> None:
    cells = layer(4, *grid)
    expected = F.interpolate(cells.scores[None], size=size, mode="bilinear", align_corners=False)[0]
    assert torch.allclose(every_pixel(cells, size), expected, atol=2e-5), "torch takes places in float32"


@pytest.mark.parametrize(("grid", "size"), SIZES)
@pytest.mark.parametrize("names", [1, 5, 300])
def test_best_name_probability_and_entropy_are_those_of_the_whole_softmax(
    grid: tuple[int, int], size: tuple[int, int], names: int
) -> None:
    cells = layer(names, *grid)
    logits = 10 * F.interpolate(cells.scores[None], size=size, mode="bilinear", align_corners=False)[0]
    chances = logits.softmax(0)
    found = read(Reader([cells], size, 10.0), probabilities=True, entropy=True)
    assert torch.equal(found["name"].long(), logits.argmax(0))
    assert torch.allclose(found["confidence"], chances.amax(0), atol=5e-5)
    entropy = -(chances * logits.log_softmax(0)).sum(0)
    assert torch.allclose(found["entropy"], entropy, atol=2e-4)
    assert torch.equal(read(Reader([cells], size, 10.0))["name"], found["name"]), "with names left out"


@pytest.mark.parametrize("chunk", [1, 2, 7])
@pytest.mark.parametrize("tile", [(2, 2), (5, 3), (999, 999)])
def test_tiles_and_chunks_change_nothing(
    chunk: int, tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = layer(9, 3, 4)
    reader = Reader([cells], (7, 9), 5.0)
    whole = read(reader, probabilities=True, entropy=True)
    monkeypatch.setattr(_upsample, "TILE", tile)
    monkeypatch.setattr(_upsample, "NAMES", chunk)
    parts = read(reader, probabilities=True, entropy=True)
    assert torch.equal(parts["name"], whole["name"])
    assert torch.allclose(parts["confidence"], whole["confidence"], atol=1e-6)
    assert torch.allclose(parts["entropy"], whole["entropy"], atol=1e-5)
    assert torch.equal(read(reader)["name"], whole["name"])


def test_layers_of_two_kinds_share_one_softmax() -> None:
    coarse, fine = layer(3, 2, 2), layer(2, 16, 16, seed=1)
    fine = Layer(fine.scores, torch.tensor([3, 4]), (16, 16), 1, 1)
    reader = Reader([fine, coarse], (16, 16), 3.0)
    logits = 3 * torch.cat([every_pixel(coarse, (16, 16)), fine.scores])
    found = read(reader, probabilities=True)
    assert torch.equal(found["name"].long(), logits.argmax(0))
    assert torch.allclose(found["confidence"], logits.softmax(0).amax(0), atol=1e-6)


def test_of_equal_scores_the_first_name_wins() -> None:
    cells = Layer(torch.ones(300, 2, 2), torch.arange(300), (16, 16), 8, 8)
    found = read(Reader([cells], (16, 16), 10.0), probabilities=True)
    assert (found["name"] == 0).all()
    assert torch.allclose(found["confidence"], torch.full((16, 16), 1 / 300))


def test_overlapping_patches_lie_at_their_centres() -> None:
    """Cells every 4 px of patches of 16 px: a linear function of the place comes back exactly."""
    centres = torch.arange(5) * 4.0 + 8
    cells = Layer(centres[None, :, None].expand(1, 5, 5).contiguous(), torch.tensor([0]), (32, 32), 16, 4)
    found = every_pixel(cells, (32, 32))[0, :, 0]
    assert torch.allclose(found, (torch.arange(32) + 0.5).clamp(8, 24))


def test_names_are_left_out_only_where_they_cannot_win() -> None:
    scores = torch.tensor([[[1.0, 1.0, 0.0]], [[0.5, 0.5, 0.5]], [[0.4, 0.4, 0.4]]])
    assert able(scores)[:, 0].tolist() == [[True, True, False], [False, True, True], [False, False, False]]


def test_probability_of_one_name() -> None:
    cells = layer(4, 3, 5)
    expected = (7 * every_pixel(cells, (20, 31))).softmax(0)
    for number in range(4):
        assert torch.allclose(probability(cells, number, (20, 31), 7.0), expected[number], atol=1e-6)


def test_softmax_is_stable_at_a_large_scale() -> None:
    found = read(Reader([layer(6, 4, 4)], (32, 32), 1e5), probabilities=True, entropy=True)
    assert found["confidence"].isfinite().all()
    assert found["entropy"].isfinite().all()
    assert found["entropy"].min() >= 0
