"""PGS and its ablations against the paper in Python loops, and what each ablation changes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._edges import salience
from patchclip.masking.pgs import PGSMask
from tests.masking._images import dropped, noise, rng, tokens


def pick(masker: PGSMask, pixels: Tensor, patches: int) -> Tensor:
    """The patches dropped, bool [b, l]."""
    return dropped(masker.select(pixels, tokens(len(pixels), patches), 0.5, rng()), patches)


def reference(masker: PGSMask, pixels: Tensor, features: Tensor, progress: float, noise: Tensor) -> list[int]:
    """The four steps of the paper for one image, in Python loops; noise [2, l] as the masker draws it."""
    n = len(features)
    side = pixels.shape[-1] // math.isqrt(n)
    drop = n - max(1, int(n * (1 - float(masker.mask_ratio)) + 1e-6))  # type: ignore[arg-type]
    weight = [0.0] * n
    if masker.edges != "none":
        weight = salience(pixels[None], n, masker.edges, masker.contrast)[0].tolist()
    order = sorted(range(n), key=lambda i: weight[i])
    shield = set(order[n - int(masker.protect * n + 1e-6) :]) if max(weight) > min(weight) else set()
    free = [i for i in range(n) if i not in shield]
    seeds = sorted(free, key=lambda i: -float(noise[0, i]))[: max(1, round(masker.candidates * n))]

    def unit(rows: list[list[float]]) -> list[list[float]]:
        mean = [sum(column) / n for column in zip(*rows, strict=True)]
        centred = [[x - m for x, m in zip(row, mean, strict=True)] for row in rows]
        return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in centred]

    def cosines(rows: list[list[float]]) -> list[list[float]]:
        return [[sum(map(float.__mul__, a, b)) for b in unit(rows)] for a in unit(rows)]

    colours = []
    for i in range(n):
        r, c = divmod(i, math.isqrt(n))
        patch = pixels[:, r * side : (r + 1) * side, c * side : (c + 1) * side]
        colours.append(torch.nn.functional.avg_pool2d(patch, side // 4).flatten().tolist())
    first, last = cosines(colours), cosines(features.tolist())
    plan = [
        [(1 - progress) * a + progress * b for a, b in zip(*rows, strict=True)]
        for rows in zip(first, last, strict=True)
    ]
    if masker.transport:
        kernel = [[math.exp(s / masker.temperature) for s in row] for row in plan]
        scale = [1.0] * n
        for _ in range(masker.iterations):
            sums = [sum(k * x for k, x in zip(row, scale, strict=True)) for row in kernel]
            scale = [math.sqrt(x / y) for x, y in zip(scale, sums, strict=True)]
        plan = [[scale[i] * kernel[i][j] * scale[j] for j in range(n)] for i in range(n)]
    else:
        plan = [[(1 + s) / (2 * n) for s in row] for row in plan]  # as large as rows of a balanced plan
    mask, start = list(seeds), len(seeds)
    for step in range(1, masker.growth_steps + 1):
        size = start + (drop - start) * step // masker.growth_steps
        total = [sum(plan[i][j] for i in mask) for j in range(n)]
        ties = 1e-3 * sum(total) / n
        score = {j: total[j] + ties * float(noise[1, j]) for j in range(n) if j not in mask}
        ranked = sorted(score, key=lambda j: (j in shield, weight[j] if j in shield else -score[j]))
        mask += ranked[: size - len(mask)]
    return sorted(mask)


@pytest.mark.parametrize("progress", [0.0, 0.4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"contrast": 1.0},
        {"edges": "scharr"},
        {"edges": "laplacian", "contrast": 0.3},
        {"edges": "none"},
        {"transport": False},
        {"growth_steps": 1},
        {"mask_ratio": 0.8},
    ],
    ids=str,
)
def test_it_is_the_paper_in_loops(options: dict[str, Any], progress: float) -> None:
    masker = PGSMask(**{"mask_ratio": 0.5, **options})
    pixels, features = noise(4, 24), tokens(4, 36)
    found = pick_with(masker, pixels, features, progress)
    draws = rng()
    noises = torch.stack([torch.rand(4, 36, generator=draws) for _ in range(2)], dim=1)
    for i in range(4):
        expected = reference(masker, pixels[i], features[i], progress, noises[i])
        assert found[i].nonzero().flatten().tolist() == expected


def pick_with(masker: PGSMask, pixels: Tensor, features: Tensor, progress: float) -> Tensor:
    """The patches dropped, bool [b, l], with given tokens."""
    return dropped(masker.select(pixels, features, progress, rng()), features.shape[1])


@pytest.mark.parametrize(
    "option", [{"edges": "none"}, {"transport": False}, {"growth_steps": 1}, {"contrast": 1.0}]
)
def test_each_ablation_changes_the_mask(option: dict[str, Any]) -> None:
    pixels = noise(4, 56)
    assert not torch.equal(pick(PGSMask(0.5), pixels, 196), pick(PGSMask(0.5, **option), pixels, 196))


def test_without_edges_nothing_is_protected() -> None:
    pixels = noise(1, 56).expand(300, -1, -1, -1)
    often = pick(PGSMask(0.5, edges="none"), pixels, 196).float().mean(dim=0)
    assert often.min() > 0.2


def test_an_object_on_texture_is_kept_for_its_colour() -> None:
    """Edges alone keep the loud texture; with contrast the smooth object on it stays."""
    pixels = noise(20, 56)
    pixels[:, :, 20:36, 20:36] = 3.0
    inside = torch.zeros(14, 14, dtype=torch.bool)
    inside[5:9, 5:9] = True
    lost = [pick(PGSMask(0.5, contrast=c), pixels, 196)[:, inside.flatten()].float().mean() for c in (0, 1)]
    assert lost[1] < 0.1 < lost[0]


@pytest.mark.parametrize("edges", ["canny", ""])
def test_unknown_edge_detectors_are_refused(edges: str) -> None:
    with pytest.raises(ConfigError, match=f"edges='{edges}' must be one of sobel, scharr, laplacian or none"):
        PGSMask(0.5, edges=edges)
