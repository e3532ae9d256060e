"""What holds for every adapter, ours and those to come, by kind."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from patchclip import registry
from patchclip.adapt.shots import ImageShots
from patchclip.contracts import Adapter, CaptionAdapter, TowerAdapter
from patchclip.embeddings.linear_map import LinearMap
from patchclip.engine.adapting.settings import ADAPTER, CAPTIONS, TOWERS, kind_of
from patchclip.models.towers import ClipEncoder
from tests.adapt._gaussians import gaussians
from tests.engine.adapting._sets import picture
from tests.models._tiny import encoder

NAMES = registry.names("adapt")
KINDS = {kind: [name for name in NAMES if kind_of(name) == kind] for kind in (ADAPTER, TOWERS, CAPTIONS)}
QUICK = {"steps": 2, "epochs": 1}
"""Options that make a method quick, where it has them."""


def build(name: str) -> Any:
    return registry.build(
        "adapt", name, **{k: v for k, v in QUICK.items() if registry.accepts("adapt", name, k)}
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labelled(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Unit-length float32 features, labels and texts."""
    features, labels, means = gaussians(4, 8, 10, seed)
    return F.normalize(features, dim=-1).float(), labels, F.normalize(means, dim=-1).float()


def shots(model: ClipEncoder) -> ImageShots:
    labels = torch.arange(2).repeat(3)
    images = [picture(int(label), i) for i, label in enumerate(labels)]
    return ImageShots(images, labels, model.preprocess)


def test_the_family_is_there_and_of_three_kinds() -> None:
    assert "gda" in KINDS[ADAPTER]
    assert "labclip" in KINDS[CAPTIONS]
    assert {"clipood", "clip_svd"} <= set(KINDS[TOWERS])
    assert sorted(name for names in KINDS.values() for name in names) == NAMES


@pytest.mark.parametrize("name", KINDS[ADAPTER])
def test_an_adapter_answers_by_its_scores_and_better_than_chance(name: str) -> None:
    features, labels, texts = labelled()
    made = build(name)
    assert isinstance(made, Adapter)
    assert made.fit(features, labels, texts, 20.0, (features, labels)) is made
    scores = made.decision_function(features)
    assert scores.shape == (40, 4)
    assert scores.isfinite().all()
    assert torch.equal(made.predict(features), scores.argmax(1))
    assert float((made.predict(features) == labels).double().mean()) > 0.6


@pytest.mark.parametrize("name", KINDS[ADAPTER])
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    features, labels, texts = labelled()
    order = torch.randperm(40, generator=generator())
    first = build(name).fit(features, labels, texts).decision_function(features)
    second = build(name).fit(features[order], labels[order], texts).decision_function(features)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", KINDS[ADAPTER])
def test_classes_may_be_named_in_another_order(name: str) -> None:
    features, labels, texts = labelled()
    order = torch.tensor([2, 0, 3, 1])
    first = build(name).fit(features, labels, texts).decision_function(features)
    second = build(name).fit(features, order.argsort()[labels], texts[order]).decision_function(features)
    torch.testing.assert_close(second, first[:, order], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", KINDS[ADAPTER])
def test_an_adapter_is_its_state(name: str) -> None:
    features, labels, texts = labelled()
    fitted, other = build(name).fit(features, labels, texts), build(name)
    other.load_state_dict(copy.deepcopy(fitted.state_dict()))
    assert torch.equal(other.decision_function(features), fitted.decision_function(features))
    assert all(isinstance(value, Tensor) for value in fitted.state_dict().values())


@pytest.mark.parametrize("name", KINDS[ADAPTER])
def test_what_it_is_given_stays_as_it_was(name: str) -> None:
    given = labelled()
    before = [each.clone() for each in given]
    build(name).fit(*given).decision_function(given[0])
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize("name", KINDS[ADAPTER])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_finite_scores(name: str, dtype: torch.dtype) -> None:
    features, labels, texts = labelled()
    made = build(name).fit(features.to(dtype), labels, texts.to(dtype))
    assert made.decision_function(features.to(dtype)).isfinite().all()


@pytest.mark.parametrize("name", KINDS[TOWERS])
def test_adapted_towers_are_a_plain_model_of_the_same_weights_names(name: str) -> None:
    model = encoder()
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    types = [type(module) for module in model.model.modules()]
    made = build(name)
    assert isinstance(made, TowerAdapter)
    tokens = model.tokenizer(["a photo of a blue.", "a photo of a green."])
    assert made.fit(model.model, shots(model), tokens, generator()) is made
    after = model.model.state_dict()
    assert {key: value.shape for key, value in after.items()} == {k: v.shape for k, v in before.items()}
    assert types == [type(module) for module in model.model.modules()]
    assert any(not torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", KINDS[TOWERS])
def test_the_generator_decides_how_towers_are_adapted(name: str) -> None:
    found, state = [], torch.get_rng_state()
    for _ in range(2):
        model = encoder()
        tokens = model.tokenizer(["a photo of a blue.", "a photo of a green."])
        build(name).fit(model.model, shots(model), tokens, generator(3))
        found.append(model.model.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", KINDS[CAPTIONS])
def test_a_map_of_captions_takes_embeddings_of_the_model(name: str) -> None:
    image, _, _ = labelled(0)
    text, _, _ = labelled(1)
    negative, _, _ = labelled(2)
    made = build(name)
    assert isinstance(made, CaptionAdapter)
    first, second = (made.fit(image, text, negative, generator(1)) for _ in range(2))
    assert isinstance(first, LinearMap)
    assert first.apply(text).shape == text.shape
    assert torch.equal(first.weight, second.weight)
    assert not first.weight.requires_grad
