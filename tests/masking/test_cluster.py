"""Cluster masking against a slow reference, and what its paper says of clusters."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking.cluster import ClusterMask, matching_threshold
from tests.masking._images import dropped, noise, rng, tokens


def correlation(x: list[float], y: list[float], centre: bool) -> float:
    """Pearson's correlation of two lists, or their cosine."""
    mx, my = (math.fsum(x) / len(x), math.fsum(y) / len(y)) if centre else (0.0, 0.0)
    dot = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    squares = math.fsum((a - mx) ** 2 for a in x) * math.fsum((b - my) ** 2 for b in y)
    return dot / math.sqrt(squares)


def patch_values(image: Tensor, side: int) -> list[list[float]]:
    """All numbers of each patch of one image, row by row."""
    _, h, w = image.shape
    return [
        image[:, y : y + side, x : x + side].flatten().tolist()
        for y in range(0, h, side)
        for x in range(0, w, side)
    ]


def reference(masker: ClusterMask, pixels: Tensor, features: Tensor, progress: float, seed: int) -> Tensor:
    """The kept patches by the paper's words: anchors, their clusters, then what exact K asks for."""
    b, patches, _ = features.shape
    source = rng(seed)
    first, second = (torch.rand(b, patches, generator=source).tolist() for _ in range(2))
    kept, side = [], round((pixels.shape[2] * pixels.shape[3] / patches) ** 0.5)
    for i in range(b):
        count = patches - int(patches * (1 - masker.anchors))
        anchors = sorted(range(patches), key=first[i].__getitem__)[-count:]
        colours, token = patch_values(pixels[i], side), features[i].tolist()
        weight = masker.features * progress
        inside = []
        for j in range(patches):
            similar = [
                (1 - weight) * correlation(colours[a], colours[j], True)
                + weight * correlation(token[a], token[j], False)
                for a in anchors
            ]
            if j in anchors or max(similar) > masker.threshold:
                inside.append(j)
        outside = [j for j in range(patches) if j not in inside]
        drop = patches - masker.kept(patches, progress)
        gone = (
            sorted(inside, key=second[i].__getitem__)[::-1] + sorted(outside, key=second[i].__getitem__)[::-1]
        )
        kept.append(sorted(gone[drop:]))
    return torch.tensor(kept)


@pytest.mark.parametrize("features", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("threshold, ratio", [(0.1, 0.5), (0.3, 0.25), (-0.1, 0.3), (0.9, 0.5)])
def test_it_equals_the_reference(features: float, threshold: float, ratio: float) -> None:
    masker = ClusterMask(ratio, anchors=0.1, threshold=threshold, features=features)
    pixels, token = noise(4, 20, 3), tokens(4, 25, 3)
    for seed in (0, 1):
        expected = reference(masker, pixels, token, 0.7, seed)
        assert torch.equal(masker.select(pixels, token, 0.7, rng(seed)), expected)


def two_halves(b: int) -> Tensor:
    """Blue sky above stripes, 8 x 8 patches of 4 pixels: two clusters of 32 patches, with a little noise."""
    pixels = torch.zeros(b, 3, 32, 32)
    pixels[:, 2, :16] = 1
    pixels[:, :, 16:, ::2] = 1
    return pixels + 0.05 * noise(b, 32, 2)


def test_one_anchor_takes_its_own_half_and_nothing_of_the_other() -> None:
    mask = dropped(ClusterMask(0.5, anchors=0.01).select(two_halves(60), tokens(60, 64), 0.0, rng()), 64)
    halves = set(map(tuple, mask.unflatten(1, (2, 32)).sum(dim=2).tolist()))
    assert halves == {(32, 0), (0, 32)}


def test_members_return_at_random_where_clusters_are_too_large() -> None:
    masker = ClusterMask(0.25, anchors=0.01)  # 16 of the 32 in the cluster
    mask = dropped(masker.select(two_halves(60), tokens(60, 64), 0.0, rng()), 64)
    halves = mask.unflatten(1, (2, 32)).sum(dim=2)
    assert set(map(tuple, halves.tolist())) == {(16, 0), (0, 16)}
    assert len(set(map(tuple, mask.tolist()))) == 60


def test_others_follow_where_clusters_are_too_small() -> None:
    mask = dropped(ClusterMask(0.75, anchors=0.01).select(two_halves(60), tokens(60, 64), 0.0, rng()), 64)
    halves = mask.unflatten(1, (2, 32)).sum(dim=2).tolist()
    assert set(map(tuple, halves)) == {(32, 16), (16, 32)}


def test_dropped_patches_resemble_an_anchor_more_than_kept_ones() -> None:
    """Law of the paper: the mask is visually coherent. Smooth random pictures, 49 patches."""
    coarse = torch.nn.functional.interpolate(noise(32, 14, 4), (56, 56), mode="bicubic")
    masker = ClusterMask(0.5)
    first = torch.rand(32, 49, generator=rng(5))
    mask = dropped(masker.select(coarse, tokens(32, 49), 0.0, rng(5)), 49)
    chosen = first.topk(2, dim=1).indices
    gap = 0.0
    for i in range(32):
        values = patch_values(coarse[i], 8)
        near = [max(correlation(values[a], values[j], True) for a in chosen[i].tolist()) for j in range(49)]
        likeness = torch.tensor(near)
        free = torch.ones(49, dtype=torch.bool)
        free[chosen[i]] = False
        gap += float(likeness[mask[i] & free].mean() - likeness[~mask[i] & free].mean()) / 32
    assert gap > 0.05


def test_a_flat_image_is_masked_by_chance() -> None:
    flat = torch.zeros(400, 3, 28, 28)
    mask = dropped(ClusterMask(0.5).select(flat, tokens(400, 49), 0.0, rng()), 49)
    assert len(set(map(tuple, mask.tolist()))) == 400
    expected = 400 * 25 / 49
    assert float((mask.sum(dim=0) - expected).abs().max()) < 5 * 10


def test_degenerate_inputs() -> None:
    one = ClusterMask(0.5).select(noise(2, 8), tokens(2, 1), 0.5, rng())
    assert one.tolist() == [[0], [0]]
    every = ClusterMask(0.0).select(noise(2, 28), tokens(2, 49), 0.5, rng())
    assert torch.equal(every, torch.arange(49).expand(2, -1))


def test_features_take_over_with_progress() -> None:
    masker = ClusterMask(0.5, features=1.0, threshold=0.2)
    pixels, other, token = noise(4, 28), noise(4, 28, 1), tokens(4, 49)

    def pick(pixels: Tensor, token: Tensor, progress: float) -> list[list[int]]:
        return masker.select(pixels, token, progress, rng()).tolist()

    assert pick(pixels, token, 0.0) == pick(pixels, tokens(4, 49, 1), 0.0) != pick(other, token, 0.0)
    assert pick(pixels, token, 1.0) == pick(other, token, 1.0) != pick(pixels, tokens(4, 49, 1), 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nothing_is_computed_in_half_precision(dtype: torch.dtype) -> None:
    masker, pixels, token = ClusterMask(0.5, features=1.0), noise(4, 28).to(dtype), tokens(4, 49).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = masker.select(pixels, token, 0.5, rng())
    assert torch.equal(found, masker.select(pixels.float(), token.float(), 0.5, rng()))


@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_the_threshold_matches_a_mean_ratio(ratio: float) -> None:
    smooth = torch.nn.functional.interpolate(noise(16, 14, 4), (56, 56), mode="bicubic")
    threshold = matching_threshold(smooth, 49, ratio, rng())
    draws = torch.rand(16, 49, generator=rng())
    share = ClusterMask(threshold=threshold).clusters(smooth, tokens(16, 49), 0.0, draws).float().mean()
    assert abs(float(share) - ratio) < 0.01


@pytest.mark.parametrize(
    "options",
    [{"anchors": 0.0}, {"anchors": 1.0}, {"threshold": 1.0}, {"threshold": float("nan")}, {"features": 1.5}],
    ids=str,
)
def test_options_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        ClusterMask(**options)
