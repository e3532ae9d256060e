"""CLIP-PGS: what edges protect, what similarity masks, and that K is exact."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from patchclip.errors import ConfigError
from patchclip.masking import pgs
from patchclip.masking._edges import edge_energy, protected
from patchclip.masking.pgs import PGSMask
from tests.masking._images import deviation, dropped, noise, rng, tokens


class NoHostSync(TorchDispatchMode):
    """Refuses every operation that waits for a value or makes a shape depend on one."""

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "item", "equal", "is_nonzero", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        assert name not in self.REFUSED, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def pick(masker: PGSMask, pixels: Tensor, patches: int, progress: float = 0.5, seed: int = 0) -> Tensor:
    """The patches dropped, bool [b, l]."""
    keep = masker.select(pixels, tokens(len(pixels), patches), progress, rng(seed))
    return dropped(keep, patches)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_patch_above_the_edge_threshold_is_never_masked_while_others_remain(
    progress: float, seed: int
) -> None:
    pixels = noise(8, 56, seed)
    shield = protected(edge_energy(pixels, 196), 0.3)
    assert shield.sum(dim=1).tolist() == [58] * 8  # of 196; 138 are free and 98 are dropped
    assert not (pick(PGSMask(0.5, contrast=0.0), pixels, 196, progress, seed) & shield).any()


def test_protection_holds_to_the_last_unprotected_patch() -> None:
    pixels = noise(4, 40)  # 10 x 10 patches; 30 protected
    shield = protected(edge_energy(pixels, 100), 0.3)
    mask = pick(PGSMask(0.7, contrast=0.0), pixels, 100)
    assert torch.equal(mask, ~shield)


@pytest.mark.parametrize("ratio, drop", [(0.75, 75), (0.9, 90), (0.98, 98)])
def test_then_protected_patches_go_by_rising_energy(ratio: float, drop: int) -> None:
    pixels = noise(1, 10, 53).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)  # 10 x 10 even patches
    energy = edge_energy(pixels, 100)
    order = energy[0].sort().values / energy.max()
    assert float(order[drop] - order[drop - 1]) > 5e-3, "choose another seed: the two are too alike"
    mask = pick(PGSMask(ratio, contrast=0.0), pixels, 100)
    assert int(mask.sum()) == drop
    assert energy[mask].max() < energy[~mask].min()


@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.05, 0.3, 0.5, 0.62, 0.9, 0.999])
@pytest.mark.parametrize("patches, side", [(4, 8), (9, 12), (49, 28), (196, 56)])
def test_exactly_k_patches_are_kept(ratio: float, patches: int, side: int) -> None:
    pixels = noise(3, side)
    pixels[1] = 0.5
    masker = PGSMask(ratio)
    keep = masker.select(pixels, tokens(3, patches), 0.5, rng())
    assert keep.shape == (3, max(1, int(patches * (1 - ratio) + 1e-6))) == (3, masker.kept(patches, 0.5))
    assert dropped(keep, patches).sum(dim=1).tolist() == [patches - keep.shape[1]] * 3


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_mask_of_an_image_does_not_depend_on_the_others(progress: float) -> None:
    masker, patches = PGSMask(0.5), 49
    pixels, features = noise(4, 28), tokens(4, patches)
    expected = masker.select(pixels, features, progress, rng())[2]
    others = torch.tensor([0, 1, 3])
    for change in (100.0, 0.0, -5.0):
        pixels[others] = change * noise(3, 28, 8)
        features[others] = change * tokens(3, patches, 8)
        assert torch.equal(masker.select(pixels, features, progress, rng())[2], expected)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_white_noise_is_masked_evenly_over_rows_and_columns(ratio: float, progress: float) -> None:
    assert deviation(pick(PGSMask(ratio), noise(300, 56, 5), 196, progress, 6), 14) < 4


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_flat_image_is_masked_evenly(value: float) -> None:
    pixels = torch.full((300, 3, 56, 56), value)
    flat = torch.full((300, 196, 8), value)
    mask = dropped(PGSMask(0.5).select(pixels, flat, 0.5, rng(1)), 196)
    assert deviation(mask, 14) < 4
    assert len(set(map(tuple, mask.tolist()))) == 300


def test_masks_come_from_the_generator() -> None:
    pixels = noise(4, 28)
    first = pick(PGSMask(0.5), pixels, 49, seed=3)
    assert torch.equal(first, pick(PGSMask(0.5), pixels, 49, seed=3))
    assert not torch.equal(first, pick(PGSMask(0.5), pixels, 49, seed=4))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(first, pick(PGSMask(0.5), pixels, 49, seed=3))
    assert torch.get_rng_state().equal(before), "the global generator was used"


@pytest.mark.parametrize("mask_ratio", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_nothing_waits_for_the_device(progress: float, mask_ratio: float) -> None:
    pixels, features = noise(2, 28), tokens(2, 49)
    with NoHostSync():
        PGSMask(mask_ratio).select(pixels, features, progress, rng())


def test_the_guard_against_waiting_works() -> None:
    with NoHostSync(), pytest.raises(AssertionError, match="waits"):
        torch.ones(1).item()


def test_shapes_follow_from_shapes_alone() -> None:
    with FakeTensorMode():
        keep = PGSMask(0.5).select(torch.empty(2, 3, 28, 28), torch.empty(2, 49, 8), 0.5, torch.Generator())
    assert keep.shape == (2, 24)
    assert keep.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tokens_give_nearly_the_same_mask(dtype: torch.dtype) -> None:
    pixels, features = noise(8, 28), tokens(8, 49)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = PGSMask(0.5).select(pixels, features.to(dtype), 1.0, rng())
    expected = PGSMask(0.5).select(pixels, features, 1.0, rng())
    rounded = PGSMask(0.5).select(pixels, features.to(dtype).float(), 1.0, rng())
    assert torch.equal(found, rounded), "nothing is computed in half precision"
    assert (dropped(found, 49) == dropped(expected, 49)).float().mean() > 0.95


def test_similarity_is_of_pixels_at_first_and_of_tokens_at_last() -> None:
    masker = PGSMask(0.5, protect=0.0)  # protection looks at pixels all the time
    pixels, features = noise(4, 28), tokens(4, 49)
    other_pixels, other_features = noise(4, 28, 1), tokens(4, 49, 1)

    def select(pixels: Tensor, features: Tensor, progress: float) -> Tensor:
        return masker.select(pixels, features, progress, rng())

    first, last = select(pixels, features, 0.0), select(pixels, features, 1.0)
    assert torch.equal(first, select(pixels, other_features, 0.0))
    assert not torch.equal(first, select(other_pixels, features, 0.0))
    assert torch.equal(last, select(other_pixels, features, 1.0))
    assert not torch.equal(last, select(pixels, other_features, 1.0))
    half = select(pixels, features, 0.5)
    assert not torch.equal(half, select(other_pixels, features, 0.5))
    assert not torch.equal(half, select(pixels, other_features, 0.5))


def test_the_mask_takes_what_resembles_its_candidates() -> None:
    """Two kinds of tokens, one candidate: its kind goes first, all 50 of it."""
    kind = torch.arange(100) % 2
    features = torch.nn.functional.one_hot(kind, 2).float()[None].repeat(40, 1, 1)
    masker = PGSMask(0.5, candidates=0.01, protect=0.0)
    mask = dropped(masker.select(torch.zeros(40, 3, 40, 40), features, 1.0, rng()), 100)
    of_one_kind = mask.float() @ torch.nn.functional.one_hot(kind, 2).float()
    assert sorted(set(map(tuple, of_one_kind.tolist()))) == [(0.0, 50.0), (50.0, 0.0)]


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_the_mask_grows_in_equal_steps_and_keeps_what_it_holds(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown: list[Tensor] = []

    def recorded(score: Tensor, size: int) -> Tensor:
        grown.append(largest(score, size))
        return grown[-1]

    largest = pgs.largest
    monkeypatch.setattr(pgs, "largest", recorded)
    final = pick(PGSMask(0.9, growth_steps=steps), noise(3, 56), 196)
    sizes = [int(mask[0].sum()) for mask in grown]
    assert sizes[0] == 10  # 5 % of 196
    assert sizes[-1] == 177
    assert len(sizes) == steps + 1
    gains = [b - a for a, b in itertools.pairwise(sizes)]
    assert max(gains) - min(gains) <= 1
    for smaller, larger in itertools.pairwise(grown):
        assert not (smaller & ~larger).any()
    assert torch.equal(grown[-1], final)


def test_what_is_masked_stays_masked_though_nothing_resembles_it() -> None:
    plan = (1 - torch.eye(9))[None] / 8  # a patch resembles every other one, not itself
    held = torch.zeros(1, 9, dtype=torch.bool)
    held[0, [2, 5]] = True
    protected_too = torch.zeros(1, 9)
    protected_too[0, 5] = 1.5 * pgs.LAST_RESORT
    grown = PGSMask(0.5, growth_steps=1).grow(
        held, plan, torch.rand(1, 9, generator=rng()), protected_too, (2, 4)
    )
    assert int(grown.sum()) == 4
    assert grown[held].all()


def test_candidates_are_random_and_unprotected(monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[Tensor] = []
    largest = pgs.largest
    monkeypatch.setattr(pgs, "largest", lambda score, size: first.append(largest(score, size)) or first[-1])
    pixels = noise(1, 56).expand(400, -1, -1, -1)
    pick(PGSMask(0.5, contrast=0.0), pixels, 196)
    shield = protected(edge_energy(pixels[:1], 196), 0.3)[0]
    counts = first[0].sum(dim=0)
    assert counts[shield].sum() == 0
    expected = 400 * 10 / 138
    assert float((counts[~shield] - expected).abs().max()) < 5 * expected**0.5
    assert int(counts.sum()) == 4000


def test_a_range_of_ratios_gives_five_sizes_that_vary() -> None:
    masker = PGSMask((0.3, 0.5))
    sizes = [masker.kept(196, step / 200) for step in range(200)]
    assert set(sizes) == {137, 127, 117, 107, 98}
    assert len(set(sizes[:10])) > 1
    for step in (0, 1, 2, 3):
        keep = masker.select(noise(1, 28), tokens(1, 196), step / 200, rng())
        assert keep.shape[1] == sizes[step]


@pytest.mark.parametrize(
    "options",
    [
        {"mask_ratio": 1.0},
        {"mask_ratio": (0.5, 0.3)},
        {"candidates": 0.0},
        {"candidates": 1.0},
        {"candidates": float("nan")},
        {"protect": -0.1},
        {"protect": 1.0},
        {"protect": float("nan")},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"iterations": 0},
        {"growth_steps": 0},
        {"contrast": -1.0},
        {"contrast": float("nan")},
    ],
    ids=str,
)
def test_options_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(ConfigError) as caught:
        PGSMask(**options)
    assert f"{name}={value}" in str(caught.value)


def test_nothing_is_learnt_through_a_mask() -> None:
    features = tokens(1, 49).requires_grad_()
    assert not PGSMask(0.5).balanced_similarity(noise(1, 28), features.detach(), 1.0).requires_grad
    assert not PGSMask(0.5).select(noise(1, 28), features, 1.0, rng()).requires_grad
