"""Which images a seed learns from, and what must hold for a set."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from patchclip.data.benchmarks import load_benchmark
from patchclip.data.sets import Classification
from patchclip.engine.adapting.draws import Crop, draw, open_source
from patchclip.engine.adapting.settings import Settings, kind_of
from patchclip.errors import ConfigError, DataError
from patchclip.evaluation.embedder import Embedder
from tests.engine.adapting._sets import picture, write_classes
from tests.models._tiny import encoder


def opened(root: Path, name: str = "colours") -> Classification:
    found = load_benchmark(root, name)
    assert isinstance(found, Classification)
    return found


def test_shots_are_drawn_by_class_and_others_are_left_to_choose_on(tmp_path: Path) -> None:
    benchmark, embedder = opened(write_classes(tmp_path)), Embedder(encoder())
    settings = Settings(shots=3, data_root=tmp_path)
    source = open_source(embedder, benchmark, settings)
    found = [draw(embedder, source, settings, seed) for seed in (0, 0, 1)]
    assert found[0].numbers == found[1].numbers != found[2].numbers
    first = found[0]
    assert first.labels.bincount().tolist() == [3] * 4
    assert first.validation is not None
    assert first.validation.labels.bincount().tolist() == [3] * 4
    rows = {tuple(row) for row in first.train.features.tolist()}
    assert not rows & {tuple(row) for row in first.validation.features.tolist()}
    pixels = encoder().preprocess(source.train.images[first.numbers[0]])[None]
    torch.testing.assert_close(encoder().encode_image(pixels)[0], first.train.features[0], atol=1e-5, rtol=0)


def test_all_images_leave_a_tenth_to_choose_on(tmp_path: Path) -> None:
    benchmark, embedder = opened(write_classes(tmp_path)), Embedder(encoder())
    settings = Settings(shots=0, new_classes=0.5, data_root=tmp_path)
    found = draw(embedder, open_source(embedder, benchmark, settings), settings, 0)
    assert found.labels.bincount().tolist() == [7, 7]
    assert found.validation is not None
    assert found.validation.labels.bincount().tolist() == [1, 1]


def test_a_method_that_chooses_nothing_reads_all_images(tmp_path: Path) -> None:
    benchmark, embedder = opened(write_classes(tmp_path)), Embedder(encoder())
    settings = Settings(shots=0, data_root=tmp_path)
    source = open_source(embedder, benchmark, settings)
    found = draw(embedder, source, settings, 0, chooses=False)
    assert found.labels.bincount().tolist() == [8] * 4
    assert found.numbers == tuple(range(32))
    assert found.validation is not None
    assert (len(found.train), len(found.validation)) == (28, 4)  # of the probe
    few = Settings(shots=3, data_root=tmp_path)
    assert draw(embedder, source, few, 0, chooses=False).numbers == draw(embedder, source, few, 0).numbers


def test_views_are_several_crops_of_the_same_images(tmp_path: Path) -> None:
    benchmark, embedder = opened(write_classes(tmp_path)), Embedder(encoder())
    settings = Settings(shots=1, views=3, data_root=tmp_path)
    found = draw(embedder, open_source(embedder, benchmark, settings), settings, 0)
    assert len(found.numbers) == 4
    assert found.train.labels.tolist() == [*found.labels.tolist()] * 3
    assert len({tuple(row) for row in found.train.features.tolist()}) == 12


def test_a_crop_is_square_and_its_own_for_each_view_and_image() -> None:
    image = picture(0, 1)
    crops = [Crop(number)(image, index) for number, index in ((0, 0), (0, 0), (1, 0), (0, 1))]
    assert crops[0].tobytes() == crops[1].tobytes()
    assert all(crop.width == crop.height for crop in crops)
    assert len({crop.tobytes() for crop in crops}) == 3
    thin = Crop(0)(Image.new("RGB", (1, 40), "red"), 0)
    assert thin.getpixel((0, 0)) == (255, 0, 0)


def test_sets_that_cannot_be_learned_from_are_named(tmp_path: Path) -> None:
    write_classes(tmp_path, "holes", (5, 0, 5, 5))
    write_classes(tmp_path, "few", (5, 5, 2, 5))
    write_classes(tmp_path, "plain")
    embedder = Embedder(encoder())

    def attempt(name: str, **settings: float) -> None:
        open_source(embedder, opened(tmp_path, name), Settings(**settings, data_root=tmp_path))  # type: ignore[arg-type]

    with pytest.raises(DataError, match=r"class 'green' .* has no training image"):
        attempt("holes", shots=2)
    with pytest.raises(DataError, match="shots=4, but class 'grey' has 2 training images: ask for 2"):
        attempt("few", shots=4)
    attempt("few", shots=4, new_classes=0.5)  # grey is a new one
    with pytest.raises(DataError, match="leave 1 to learn"):
        attempt("plain", new_classes=0.8)
    (tmp_path / "plain" / "train").rename(tmp_path / "plain" / "else")
    with pytest.raises(DataError, match="plain has no train split"):
        attempt("plain")


@pytest.mark.parametrize(
    "given", [{"shots": -1}, {"seeds": 0}, {"views": -2}, {"pairs": -1}, {"new_classes": 1.0}]
)
def test_settings_outside_their_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        Settings(**given)  # type: ignore[arg-type]


def test_the_kind_of_a_method_is_read_off_its_fit() -> None:
    assert kind_of("gda:alpha=1") == "adapter"
    assert kind_of("clipood:steps=1") == "towers"
    assert kind_of("labclip") == "captions"
    with pytest.raises(ConfigError, match="did you mean 'gda'"):
        kind_of("gdaa")
