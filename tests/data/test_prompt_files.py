"""Class names and prompts from files."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchclip.data.prompt_files import with_prompts
from patchclip.data.sets import Classification, Multilabel, Retrieval
from patchclip.errors import DataError
from tests.data._make_sets import as_json, lines


class NoImages:
    """Two images that nobody looks at."""

    fingerprint = "none"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Image.Image:
        raise DataError(f"there is no image {index}")


IMAGES = NoImages()
SET = Classification("wds_pets", IMAGES, np.array([0, 1]), ("cat", "dog"), ("{c}",))


def of(tmp_path: Path, names: Any = None, prompts: Any = None, benchmark: Any = SET) -> Any:
    files = [tmp_path / "names.json", tmp_path / "prompts.json"]
    for path, content in zip(files, (names, prompts), strict=True):
        if content is not None:
            as_json(path, content)
    return with_prompts(benchmark, *(path if path.exists() else None for path in files))


def test_lines(tmp_path: Path) -> None:
    names = lines(tmp_path / "names.txt", "Katze", "Hund")
    prompts = lines(tmp_path / "prompts.txt", "ein Bild von {c}", "{}!")
    made = with_prompts(SET, names, str(prompts))
    assert isinstance(made, Classification)
    assert made.prompts(1) == ("ein Bild von Hund", "Hund!")
    assert made.images is IMAGES
    assert with_prompts(SET) == SET


def test_clip_benchmarks_files(tmp_path: Path) -> None:
    made = of(tmp_path, {"pets": ["Katze", "Hund"], "x": []}, {"wds/pets": ["{c}!"]})
    assert [made.prompts(label) for label in range(2)] == [("Katze!",), ("Hund!",)]
    own = {"Katze": ["sie miaut", "sie kratzt"], "Hund": ["er bellt"]}
    made = of(tmp_path, {"pets": ["Katze", "Hund"]}, {"pets": own})
    assert [made.prompts(label) for label in range(2)] == [("sie miaut", "sie kratzt"), ("er bellt",)]


def test_other_splits_and_kinds_take_them_too(tmp_path: Path) -> None:
    train = replace(SET, labels=np.array([1, 1]))
    made = of(tmp_path, {"pets": ["Katze", "Hund"]}, None, replace(SET, opener={"train": train}.get))
    found = made.split("train")
    assert (found.classnames, found.labels.tolist()) == (("Katze", "Hund"), [1, 1])
    assert made.split("val") is None
    several = Multilabel("pets", IMAGES, np.zeros((2, 2), np.uint8), ("cat", "dog"), ("{c}",))
    assert of(tmp_path, None, None, several).classnames == ("Katze", "Hund")
    captioned = Retrieval("pets", IMAGES, [("a",), ("b",)])
    assert of(tmp_path, None, None, captioned) is captioned


def test_a_set_that_is_not_named_keeps_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert of(tmp_path, {"cars": ["a"]}, {"cars": ["{c}"]}) == SET
    assert [record.getMessage().partition("names.json ")[2] for record in caplog.records][:1] == [
        "does not name wds_pets, which keeps its own"
    ]


@pytest.mark.parametrize(
    "names, prompts, message",
    [
        ({"pets": ["a"]}, None, "'pets' must have a name for each of the 2 classes of wds_pets, got 1"),
        ({"pets": "a"}, None, "'pets': it must be a list of texts"),
        (["a", "b"], None, "names.json must be an object with class names"),
        (None, {"pets": ["{c}", "photo"]}, r"'pets', prompt 1: it must contain \{c\}"),
        (None, {"pets": []}, "'pets': it must be a list of texts, at least one"),
        (
            None,
            {"pets": {"cat": ["x"]}},
            "'pets' must have prompts for each of the 2 class names, got none for 'dog'",
        ),
        (None, {"pets": {"cat": ["x"], "dog": [""]}}, "'pets', 'dog': it must be a list of texts"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, names: Any, prompts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        of(tmp_path, names, prompts)


def test_new_names_need_prompts_of_their_own(tmp_path: Path) -> None:
    own = replace(SET, templates={"cat": ("a",), "dog": ("b",)})
    with pytest.raises(DataError, match=r"the prompts of wds_pets must have .* none for 'Katze' and 1 more"):
        of(tmp_path, {"pets": ["Katze", "Hund"]}, None, own)
