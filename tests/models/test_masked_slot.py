"""The slot as an object: seeds, replays, copies, pickles, and towers that have no place for it."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from patchclip.errors import TowerError
from patchclip.masking.none import NoMask
from patchclip.masking.pgs import PGSMask
from patchclip.masking.random import RandomMask
from patchclip.models.masked import attach, slot_of
from patchclip.models.slot import Layout, MaskSlot, hash_seed
from tests.models._tiny import CANNOT_DROP, TOWERS, build, embed, hooks, native, pictures


@pytest.mark.parametrize("kind", list(TOWERS))
def test_checkpoints_do_not_change(kind: str) -> None:
    architecture = build(kind)
    before = list(architecture.model.state_dict())
    attach(architecture.model, PGSMask())
    assert list(architecture.model.state_dict()) == before
    assert len(list(architecture.model.named_parameters())) == len(list(build(kind).model.named_parameters()))


@pytest.mark.parametrize("kind", ["native", "timm", "eva"])
def test_a_deep_copy_has_its_own_slot(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, RandomMask(0.5))
    embed(model, pixels)
    twin = copy.deepcopy(model)
    other = slot_of(twin)
    assert other is not None
    assert other is not slot
    first = slot.keep
    other.seed = (99,)
    embed(twin, pixels)
    assert slot.keep is first
    assert other.keep is not None
    assert first is not None
    assert not torch.equal(other.keep, first)
    slot.seed = (99,)
    embed(model, pixels)
    assert torch.equal(slot.keep, other.keep)
    assert slot._pixels is None
    assert other._pixels is None


@pytest.mark.parametrize("kind", ["native", "eva"])
def test_a_model_with_a_mask_can_be_pickled(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, PGSMask(0.5))
    expected = embed(model, pixels)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    torch.testing.assert_close(embed(twin, pixels), expected)
    found = slot_of(twin)
    assert found is not None
    assert found is not slot
    assert torch.equal(found.keep, slot.keep)


@pytest.mark.parametrize("kind", ["native", "timm", "eva"])
def test_attaching_twice_replaces_the_first(kind: str) -> None:
    architecture = build(kind)
    model, pixels = architecture.model.train(), pictures(architecture)
    first = attach(model, RandomMask(0.5))
    second = attach(model, RandomMask(0.75))
    assert slot_of(model) is second
    assert sum(isinstance(module, MaskSlot) for module in model.modules()) == 1
    assert hooks(model) == 1
    embed(model, pixels)
    assert first.keep is None
    assert first._pixels is None
    assert second.keep is not None
    assert second.mask_ratio == 0.75


def test_replay_uses_the_indices_given_once() -> None:
    architecture = build()
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, RandomMask(0.5))
    given = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]])
    slot.replay = given
    found = embed(model, pixels)
    assert torch.equal(slot.keep, given)
    embed(model, pixels)
    assert slot.keep is not None
    assert not torch.equal(slot.keep, given)
    slot.enabled = False
    torch.testing.assert_close(found, native(model.visual, pixels, given), atol=1e-5, rtol=1e-5)


def test_masks_come_from_the_seed_alone() -> None:
    architecture = build()
    model, pixels = architecture.model.train(), pictures(architecture, 4)
    slot = attach(model, RandomMask(0.5))
    keeps = []
    for seed, noise in (((3, 1, 0), 0), ((3, 1, 0), 1), ((3, 2, 0), 0), ((3, 1, 1), 0)):
        torch.manual_seed(noise)
        slot.seed = seed
        embed(model, pixels)
        keeps.append(slot.keep)
    assert torch.equal(keeps[0], keeps[1])
    assert not torch.equal(keeps[0], keeps[2])
    assert not torch.equal(keeps[0], keeps[3])
    torch.manual_seed(5)
    state = torch.get_rng_state()
    embed(model, pixels)
    assert torch.get_rng_state().equal(state), "the global generator was used"


def test_seeds_are_well_mixed() -> None:
    seeds = {hash_seed((run, step, rank)) for run in range(10) for step in range(30) for rank in range(4)}
    assert len(seeds) == 1200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert hash_seed((1, 23)) != hash_seed((12, 3))
    high = sum(seed >> 62 for seed in seeds) / 1200
    assert high == pytest.approx(0.5, abs=0.07)  # 4.8 standard errors


def test_progress_reaches_the_masker() -> None:
    seen: list[tuple[float, torch.Size, torch.Size]] = []

    class Spy(NoMask):
        def kept(self, patches: int, progress: float) -> int:
            return patches // 2 if progress > 0.5 else patches

        def select(
            self, pixels: Tensor, tokens: Tensor, progress: float, generator: torch.Generator
        ) -> Tensor:
            seen.append((progress, pixels.shape, tokens.shape))
            return torch.arange(tokens.shape[1] // 2).expand(len(tokens), -1)

    architecture = build()
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, Spy())
    embed(model, pixels)
    assert slot.keep is None
    slot.progress = 0.75
    embed(model, pixels)
    assert seen == [(0.75, (2, 3, 32, 32), (2, 16, 64))]


@pytest.mark.parametrize("kind", list(CANNOT_DROP))
def test_towers_that_cannot_drop_tokens_say_so(kind: str) -> None:
    model = build(kind).model
    with pytest.raises(TowerError, match=r"cannot drop tokens.*ViT-B-16.*masking.name=none"):
        attach(model, RandomMask(0.5))
    assert slot_of(model) is None
    assert hooks(model) == 0


def test_a_module_without_image_tower_is_refused() -> None:
    with pytest.raises(TowerError, match="Linear has no image tower"):
        attach(nn.Linear(2, 2), RandomMask(0.5))


@pytest.mark.parametrize("with_indices", [False, True])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_before_the_patches_are_always_kept(prefix: int, with_indices: bool) -> None:
    slot = MaskSlot(RandomMask(0.5), Layout(prefix, (8, 8), (2, 2), with_indices))
    tokens = torch.arange(2.0 * (prefix + 4)).view(2, -1, 1)
    slot.see(nn.Identity(), (torch.zeros(2, 3, 16, 16),))
    slot.replay = torch.tensor([[1, 3], [0, 2]])
    out = slot(tokens)
    if with_indices:
        out, keep = out
        assert keep.tolist() == [[1, 3], [0, 2]]
    expected = [[*range(prefix), prefix + 1, prefix + 3], [*range(prefix), prefix, prefix + 2]]
    assert out.squeeze(2).tolist() == [expected[0], [prefix + 4 + i for i in expected[1]]]


def test_a_slot_without_pixels_says_so() -> None:
    slot = MaskSlot(RandomMask(0.5), Layout(1, (8, 8), (4, 4)))
    with pytest.raises(TowerError, match=r"did not see the pixels.*attach"):
        slot(torch.zeros(2, 17, 8))


def test_a_ratio_that_varies_is_reported_by_the_slot() -> None:
    architecture = build()
    model, pixels = architecture.model.train(), pictures(architecture)
    slot = attach(model, RandomMask((0.3, 0.5)))
    sizes = set()
    for step in range(30):
        slot.progress = step / 30
        embed(model, pixels)
        assert slot.keep is not None
        assert slot.mask_ratio == pytest.approx(1 - slot.keep.shape[1] / 16)
        sizes.add(slot.keep.shape[1])
    assert sizes == {11, 10, 9, 8}  # floor of 11.2, 10.4, 9.6, 8.8, 8
