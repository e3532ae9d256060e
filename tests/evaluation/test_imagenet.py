"""Names for sets whose classes are called by WordNet id or label."""

from pathlib import Path

import numpy as np
import pytest

from patchclip.data.layouts.folders import DEFAULT_TEMPLATES, open_class_folders
from patchclip.data.sets import Classification, Retrieval
from patchclip.evaluation.imagenet import named
from patchclip.models import imagenet
from tests.data._make_sets import class_folders, lines


def opened(folder: Path, *names: str) -> Classification:
    return open_class_folders(class_folders(folder, *names), "s", "test")


def test_a_subset_of_the_ids(tmp_path: Path) -> None:
    """ImageNet-A, -R and -O have 200 of the folders."""
    made = named(opened(tmp_path, "n15075141", "n01440764"))
    assert isinstance(made, Classification)
    assert (made.classnames, made.labels.tolist()) == (("tench", "toilet paper"), [0, 1])
    assert made.templates == imagenet.templates()
    assert "a bad photo of a tench." in made.prompts(0)


def test_own_prompts_stay(tmp_path: Path) -> None:
    lines(tmp_path / "zeroshot_classification_templates.txt", "{c}!")
    made = named(opened(tmp_path, "n15075141", "n01440764"))
    assert isinstance(made, Classification)
    assert made.prompts(0) == ("tench!",)


def test_ids_of_the_larger_set_take_their_lemma(tmp_path: Path) -> None:
    made = named(opened(tmp_path, "n00005787", "n01440764"))
    assert isinstance(made, Classification)
    assert made.classnames == ("benthos", "tench")


def test_other_splits_are_named_too(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", "n01440764", "n15075141")
    class_folders(tmp_path / "val", "n01440764", "n15075141")
    made = named(open_class_folders(tmp_path, "imagenet1k", "test"))
    assert isinstance(made, Classification)
    train = made.split("train")
    assert train is not None
    assert train.classnames == ("tench", "toilet paper")
    assert made.split("val") is None


def test_folders_0_to_999(tmp_path: Path) -> None:
    images = opened(tmp_path, "0", "1").images
    numbers = tuple(map(str, range(1000)))
    labels = np.array([7, 999])
    made = named(Classification("v2", images, labels, numbers, DEFAULT_TEMPLATES))
    assert isinstance(made, Classification)
    assert made.classnames == imagenet.classnames()
    assert made.classnames[int(made.labels[0])] == "rooster"


@pytest.mark.parametrize("names", [("cat", "n01440764"), ("n99999999", "n01440764"), ("0", "1")])
def test_other_sets_stay_as_they_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    made = opened(tmp_path, *names)
    assert named(made) is made
    captioned = Retrieval("r", made.images, [("a",), ("b",)])
    assert named(captioned) is captioned
