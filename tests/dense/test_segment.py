"""patchclip.segment: pictures of every kind, one or several, models by name, path or as they are."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import patchclip
from patchclip.dense.inference import Inference
from patchclip.dense.segment import prepared, segment
from patchclip.dense.segmentation import Segmentation
from patchclip.errors import ConfigError, DataError
from patchclip.models.towers import ClipEncoder
from tests.models import _tiny

LABELS = ["cat", "dog", "grass"]
NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    found = ClipEncoder(_tiny.build())
    found.model.eval()
    return found


def test_it_is_public() -> None:
    assert patchclip.segment is segment
    assert patchclip.Segmenter.__name__ == "Segmenter"


def test_path_picture_and_array_are_the_same(encoder: ClipEncoder, tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    found = segment(NOISE, LABELS, encoder, background="none", method="raw")
    assert isinstance(found, Segmentation)
    assert found.label_map.shape == (40, 56)
    assert found.label_map.min() >= 1
    assert found.image.size == (56, 40)
    for picture in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(NOISE)):
        again = segment(picture, LABELS, encoder, background="none", method="raw")
        assert np.array_equal(again.label_map, found.label_map)


def test_the_map_is_the_most_probable_label(encoder: ClipEncoder) -> None:
    found = segment(NOISE, LABELS, encoder, background="none", method="raw")
    probability = np.stack([found.probability(label) for label in LABELS])
    assert np.array_equal(probability.argmax(axis=0) + 1, found.label_map)
    finer = segment(NOISE, LABELS, encoder, background="none", method="raw", step=4)
    assert finer.scores.shape[1] > found.scores.shape[1]
    probability = np.stack([finer.probability(label) for label in LABELS])
    assert np.array_equal(probability.argmax(axis=0) + 1, finer.label_map), "overlapping patches too"


def test_several_give_a_list_of_what_each_alone_gives(encoder: ClipEncoder) -> None:
    pictures: list[Any] = [NOISE, NOISE[:20], Image.fromarray(NOISE[:, :9])]
    found = segment(pictures, LABELS, encoder, background="none", method="raw")
    assert [each.label_map.shape for each in found] == [(40, 56), (20, 56), (40, 9)]
    alone = segment(NOISE[:20], LABELS, encoder, background="none", method="raw")
    assert np.allclose(found[1].scores, alone.scores, atol=1e-5)
    assert segment([], LABELS, encoder) == []


def test_synonyms_are_one_label(encoder: ClipEncoder) -> None:
    found = segment(NOISE, [("cat", "kitten"), ("dog",)], encoder, method="raw", background="none")
    assert found.labels == ("cat", "dog")
    assert found.scores.shape[0] == 2


def test_pictures_are_made_smaller_on_request(encoder: ClipEncoder) -> None:
    assert segment(NOISE, LABELS, encoder, longest=28, method="raw").label_map.shape == (20, 28)


def test_models_by_name_are_loaded_with_the_options(
    monkeypatch: pytest.MonkeyPatch, encoder: ClipEncoder
) -> None:
    asked = []

    def load(name: str | Path, **options: str) -> ClipEncoder:
        asked.append((name, options))
        return encoder

    monkeypatch.setattr("patchclip.dense.segment.load", load)
    found, inference = prepared("ViT-B-16:openai", {"device": "cpu", "precision": "bf16", "window": 0})
    assert found is encoder
    assert inference == Inference(window=0)
    assert asked == [("ViT-B-16:openai", {"device": "cpu", "precision": "bf16"})]


def test_wrong_input_is_named(encoder: ClipEncoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no option 'windows'; did you mean 'window'"):
        segment(NOISE, LABELS, encoder, windows=3)
    with pytest.raises(ConfigError, match="device belongs to loading"):
        segment(NOISE, LABELS, encoder, device="cpu")
    with pytest.raises(ConfigError, match="must be a list of names"):
        segment(NOISE, "cat, dog", encoder)
    with pytest.raises(ConfigError, match="0 labels were given"):
        segment(NOISE, [], encoder)
    with pytest.raises(DataError, match=r"none\.jpg cannot be read"):
        segment(tmp_path / "none.jpg", LABELS, encoder)


def test_what_is_no_model_or_no_list_is_named(encoder: ClipEncoder) -> None:
    for model in (None, 3, encoder.model):
        with pytest.raises(
            ConfigError, match=r"model=.* must be a name, a path or what patchclip\.load gives"
        ):
            prepared(model, {})
    with pytest.raises(ConfigError, match=r"labels.*\.tolist\(\)"):
        inspect.unwrap(segment)(NOISE, np.array(LABELS), encoder)  # types are checked in tests only
