"""The numbers of a model without the model: equal to the built one, for every kind of tower."""

import pytest
import torch

from patchclip.errors import ConfigError, TowerError
from patchclip.models.architectures import create
from patchclip.models.cost import measure, outline
from tests.models._tiny import CANNOT_DROP, TINY, TOWERS, build

KINDS = [kind for kind in TOWERS if not kind.startswith("eva")]  # _tiny shortens those after building


@pytest.mark.parametrize("kind", KINDS)
def test_the_outline_is_that_of_the_built_model(kind: str) -> None:
    name, overrides = TOWERS[kind]
    architecture = build(kind)
    assert outline(name, overrides=overrides) == measure(architecture.model, architecture.model_cfg)


@pytest.mark.parametrize("kind", TOWERS)
def test_parameters_are_those_of_the_built_model(kind: str) -> None:
    architecture = build(kind)
    found = measure(architecture.model, architecture.model_cfg)
    model = architecture.model
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.image.parameters == sum(p.numel() for p in model.visual.parameters())
    scalars = sum(p.numel() for name, p in model.named_parameters() if name.startswith("logit_"))
    assert found.parameters == found.image.parameters + found.text.parameters + scalars


def test_vit_b_16_by_hand() -> None:
    found = outline("ViT-B-16")
    assert found.parameters == 149_620_737
    assert (found.image.width, found.image.blocks, found.image.patch, found.image.prefix) == (768, 12, 16, 1)
    assert found.image.blocks_macs(197) == 12 * (12 * 197 * 768**2 + 2 * 197**2 * 768)
    assert found.text.blocks_macs(77) == 12 * (12 * 77 * 512**2 + 2 * 77**2 * 512)
    assert found.image.again_macs(197) == 12 * (8 * 197 * 768**2 + 2 * 197**2 * 768)
    assert found.image.stem == 3 * 16**2 * 768
    assert found.image.head_macs(197) == 768 * 512
    assert (found.image_size, found.context_length, found.width) == (224, 77, 512)


def test_sizes_and_overrides_are_those_asked_for() -> None:
    found = outline("ViT-Ti-16", image_size=64, context_length=9, overrides={"text_cfg": {"layers": 2}})
    built = create("ViT-Ti-16", image_size=64, context_length=9, overrides={"text_cfg": {"layers": 2}})
    assert (found.image_size, found.context_length, found.text.blocks) == (64, 9, 2)
    assert found == measure(built.model, built.model_cfg)


def test_no_random_number_is_drawn_and_no_memory_taken() -> None:
    before = torch.random.get_rng_state()
    outline("ViT-L-14")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", CANNOT_DROP)
def test_towers_without_blocks_are_refused(kind: str) -> None:
    name, overrides = CANNOT_DROP[kind]
    with pytest.raises(TowerError, match="is no ViT: its cost is not known; choose a ViT tower"):
        outline(name, overrides=overrides)


def test_nothing_is_downloaded() -> None:
    with pytest.raises(ConfigError, match="would be downloaded"):
        outline("hf-hub:apple/MobileCLIP-S1-OpenCLIP")
    with pytest.raises(ConfigError, match="roberta-base would be downloaded"):
        outline("roberta-ViT-B-32")


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="model 'ViT-B16' is unknown"):
        outline("ViT-B16")
    with pytest.raises(ConfigError, match=r"check model\.overrides"):
        outline("ViT-Ti-16", overrides={**TINY, "vision_cfg": {"widht": 3}})
