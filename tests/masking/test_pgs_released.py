"""The released CLIP-PGS: equal to a slow reference written from its description, defects included."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from patchclip.errors import ConfigError
from patchclip.masking._edges import edge_energy
from patchclip.masking._pixels import standardised_patches
from patchclip.masking.pgs import PGSMask
from patchclip.masking.pgs_released import PGSReleasedMask, divided_by_sums, relative_edges
from tests.masking._images import noise, rng, tokens

Rows = list[list[float]]


def standard(image: Tensor, side: int) -> Rows:
    """Each patch's values minus their mean over their standard deviation (+ 1e-6)."""
    _, h, w = image.shape
    found = []
    for y in range(0, h, side):
        for x in range(0, w, side):
            values = image[:, y : y + side, x : x + side].flatten().tolist()
            mean = math.fsum(values) / len(values)
            std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
            found.append([(v - mean) / (std + 1e-6) for v in values])
    return found


def cosines(rows: Rows) -> Rows:
    lengths = [math.sqrt(math.fsum(v * v for v in row)) + 1e-6 for row in rows]
    return [
        [
            math.fsum(a * b for a, b in zip(p, q, strict=True)) / (lp * lq)
            for q, lq in zip(rows, lengths, strict=True)
        ]
        for p, lp in zip(rows, lengths, strict=True)
    ]


def transported(matrix: Rows, iterations: int) -> Rows:
    """Both sums first, then division by the one of the column and by the one of the row."""
    size = range(len(matrix))
    for _ in range(iterations):
        down = [sum(matrix[i][j] for i in size) + 1e-3 for j in size]
        across = [sum(matrix[i][j] for j in size) + 1e-3 for i in size]
        matrix = [[matrix[i][j] / down[j] / across[i] for j in size] for i in size]
    return matrix


def sobel(gray: Rows) -> Rows:
    """Magnitude with zeros around the grid, then min-max with 1e-6 in the denominator."""
    gh, gw = len(gray), len(gray[0])

    def at(y: int, x: int) -> float:
        return gray[y][x] if 0 <= y < gh and 0 <= x < gw else 0.0

    raw = []
    for y in range(gh):
        raw.append([])
        for x in range(gw):
            gx = sum(w * (at(y + d, x + 1) - at(y + d, x - 1)) for d, w in ((-1, 1), (0, 2), (1, 1)))
            gy = sum(w * (at(y + 1, x + d) - at(y - 1, x + d)) for d, w in ((-1, 1), (0, 2), (1, 1)))
            raw[-1].append(math.hypot(gx, gy))
    low, high = min(map(min, raw)), max(map(max, raw))
    return [[(v - low) / (high - low + 1e-6) for v in row] for row in raw]


def reference(
    masker: PGSReleasedMask, pixels: Tensor, features: Tensor, progress: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Kept patches and attention bias by the description of the released code, image by image.

    The grey image of the edges is rounding error, so it is taken from the module; the rest is not.
    """
    b, patches, _ = features.shape
    source = rng(seed)
    first, second = (torch.rand(b, patches, generator=source) for _ in range(2))
    side = round((pixels.shape[2] * pixels.shape[3] / patches) ** 0.5)
    columns = pixels.shape[3] // side
    kept, biases = [], []
    for i in range(b):
        rank = first[i].double()
        if masker.use_ed:
            gray = standardised_patches(pixels, patches)[i].mean(dim=1).unflatten(0, (-1, columns))
            rank = rank + 1e6 * torch.tensor(sobel(gray.tolist()), dtype=torch.float64).flatten()
        count = patches - int(patches * (1 - masker.force_patch_dropout))
        candidates = sorted(range(patches), key=rank.tolist().__getitem__)[-count:]
        of_tokens, of_pixels = cosines(features[i].tolist()), cosines(standard(pixels[i], side))
        similarity = [
            [progress * t + (1 - progress) * p for t, p in zip(*rows, strict=True)]
            for rows in zip(of_tokens, of_pixels, strict=True)
        ]
        if masker.use_otn:
            added = transported(similarity, masker.sinkhorn_iter)
            similarity = [
                [s + d for s, d in zip(*r, strict=True)] for r in zip(similarity, added, strict=True)
            ]
        flagged = [
            any(similarity[a][j] > masker.target_mask_ratio for a in candidates) for j in range(patches)
        ]
        draws = second[i].tolist()
        order = [j for j in range(patches) if not flagged[j]]
        order += sorted((j for j in range(patches) if flagged[j]), key=draws.__getitem__)
        keep = sorted(order[: masker.kept(patches, progress)])
        kept.append(keep)
        biases.append([[float(not flagged[p] and not flagged[q]) for q in keep] for p in keep])
    return torch.tensor(kept), torch.tensor(biases)


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("use_ed, use_otn", [(False, False), (True, False), (False, True), (True, True)])
def test_it_equals_the_reference(use_ed: bool, use_otn: bool, progress: float) -> None:
    """Few iterations and float64: fifty would turn the last bit into another mask."""
    masker = PGSReleasedMask(
        0.5,
        force_patch_dropout=0.15,
        target_mask_ratio=0.2,
        use_ed=use_ed,
        use_otn=use_otn,
        sinkhorn_iter=4,
    )
    pixels, features = noise(4, 20, 3).double(), tokens(4, 25, 3).double()
    for seed in (0, 1):
        keep, bias = reference(masker, pixels, features, progress, seed)
        assert torch.equal(masker.select(pixels, features, progress, rng(seed)), keep)
        assert masker.last_bias is not None
        assert torch.equal(masker.last_bias, bias)


def test_all_fifty_iterations_equal_the_reference_where_no_cosine_is_negative() -> None:
    masker = PGSReleasedMask(0.5, use_ed=False, target_mask_ratio=0.9)
    features = tokens(3, 16, 3).abs().double()
    keep, bias = reference(masker, noise(3, 16).double(), features, 1.0, 0)
    assert torch.equal(masker.select(noise(3, 16).double(), features, 1.0, rng()), keep)
    assert torch.equal(masker.last_bias, bias)


@pytest.mark.parametrize("seed", range(3))
def test_edges_equal_a_convolution_by_hand(seed: int) -> None:
    gray = torch.randn(2, 5, 7, generator=rng(seed), dtype=torch.float64)
    expected = torch.tensor([sobel(image.tolist()) for image in gray], dtype=torch.float64)
    torch.testing.assert_close(relative_edges(gray), expected)


def test_its_sinkhorn_is_not_doubly_stochastic() -> None:
    """The defect: negative cosines. A doubly stochastic matrix has sums 1 and no negative entry."""
    rows = torch.nn.functional.normalize(torch.randn(1, 49, 48, generator=rng()), dim=2)
    plan = divided_by_sums(rows @ rows.transpose(1, 2), 50)
    assert (plan < 0).float().mean() > 0.05
    assert (plan.sum(dim=2) - 1).abs().max() > 1


def test_the_edges_it_sees_are_rounding_errors() -> None:
    """The defect: patches have mean 0, so their means tell nothing; a strong edge leaves no trace."""
    pixels = noise(2, 56)
    pixels[:, :, :, 28:] += 5
    assert standardised_patches(pixels, 49).mean(dim=2).abs().max() < 1e-5


def test_strong_edges_are_kept_less_than_by_our_pgs() -> None:
    """Discs on smooth ground, 49 patches: the fifth of the patches with the strongest edges."""
    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    centre = 30 + 50 * torch.rand(32, 2, 1, 1, generator=rng())
    disc = ((y - centre[:, 0]).hypot(x - centre[:, 1]) < 22).float()
    ground = torch.stack([x, y, x + y]) / 112
    pixels = ground + disc[:, None] * (1 - 2 * ground) + 0.02 * noise(32, 112, 1)
    strong = torch.zeros(32, 49).scatter_(1, edge_energy(pixels, 49).topk(10, dim=1).indices, 1)

    def kept_share(masker: Any) -> float:
        shares = []
        for seed in (0, 1):
            keep = masker.select(pixels, tokens(32, 49), 0.0, rng(seed))
            shares.append(float(strong.gather(1, keep).sum(dim=1).mean()) / 10)
        return sum(shares) / 2

    assert kept_share(PGSMask(0.5)) > kept_share(PGSReleasedMask(0.5)) + 0.1


def test_candidates_do_not_depend_on_the_seed() -> None:
    """The defect: 1e6 * edges drowns the noise. With one candidate share and no fill, masks repeat."""
    masker = PGSReleasedMask(0.5)
    pixels, features = noise(8, 56), tokens(8, 196)
    first, second = (
        masker.flagged(pixels, features, 0.0, torch.rand(8, 196, generator=rng(seed))) for seed in (0, 1)
    )
    assert (first == second).float().mean() > 0.95


def test_ties_keep_the_upper_rows_where_too_few_are_flagged() -> None:
    masker = PGSReleasedMask(0.5, target_mask_ratio=5.0, use_otn=False)  # nothing is above a cosine of 5
    keep = masker.select(noise(3, 28), tokens(3, 49), 0.5, rng())
    assert torch.equal(keep, torch.arange(24).expand(3, -1))
    assert torch.equal(masker.last_bias, torch.ones(3, 24, 24))


def test_a_flat_image_has_nothing_flagged_and_loses_its_lower_rows() -> None:
    masker = PGSReleasedMask(0.5)
    keep = masker.select(torch.zeros(2, 3, 28, 28), tokens(2, 49), 0.0, rng())
    assert torch.equal(keep, torch.arange(24).expand(2, -1))


def test_the_bias_marks_pairs_of_unflagged_patches() -> None:
    masker = PGSReleasedMask(0.3, use_ed=False, use_otn=False, target_mask_ratio=0.3)
    pixels, features = noise(4, 28), tokens(4, 49)
    keep = masker.select(pixels, features, 1.0, rng())
    plain = ~masker.flagged(pixels, features, 1.0, torch.rand(4, 49, generator=rng())).gather(1, keep)
    assert masker.last_bias.shape == (4, 34, 34)
    assert torch.equal(masker.last_bias.diagonal(dim1=1, dim2=2), plain.float())
    assert torch.equal(masker.last_bias, plain[:, :, None] * plain[:, None, :].float())
    assert 0 < masker.last_bias.mean() < 1


def test_degenerate_inputs() -> None:
    assert PGSReleasedMask(0.5).select(noise(2, 8), tokens(2, 1), 0.5, rng()).tolist() == [[0], [0]]
    every = PGSReleasedMask(0.0).select(noise(2, 28), tokens(2, 49), 0.5, rng())
    assert torch.equal(every, torch.arange(49).expand(2, -1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nothing_is_computed_in_half_precision(dtype: torch.dtype) -> None:
    masker, pixels, features = PGSReleasedMask(0.5), noise(4, 28).to(dtype), tokens(4, 49).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = masker.select(pixels, features, 0.5, rng())
    assert torch.equal(found, masker.select(pixels.float(), features.float(), 0.5, rng()))


@pytest.mark.parametrize(
    "options",
    [
        {"force_patch_dropout": 0.0},
        {"force_patch_dropout": 1.0},
        {"target_mask_ratio": -0.1},
        {"target_mask_ratio": float("nan")},
        {"sinkhorn_iter": 0},
    ],
    ids=str,
)
def test_options_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(ConfigError, match=f"{name}={value}"):
        PGSReleasedMask(**options)
