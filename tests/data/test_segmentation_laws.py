"""What holds for the masks of every layout, by a reading of the files with Pillow alone."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from patchclip.data.benchmarks import find_benchmarks, load_benchmark, open_sets
from patchclip.data.sets import Segmented
from patchclip.errors import DataError
from tests.data import _make_segmented as make

UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}  # ids of labels.txt of COCO-Stuff, counted from 1
CITY_IDS = {"road": 7, "fence": 13, "traffic light": 19, "truck": 27, "train": 31, "bicycle": 33}
RAW = (0, 10, 12, 89, 91, 181, 255)
"""Numbers in stuffthingmaps; 89 is the last thing."""


def same(value: int, scored: int) -> int:
    return value if value < scored else -1


def shifted(value: int, scored: int) -> int:
    return value - 1 if 1 <= value <= scored else -1


def raw_stuff(value: int, scored: int) -> int:
    return -1 if value == 255 else value - sum(one - 1 < value for one in UNUSED)


def raw_object(value: int, scored: int) -> int:
    return raw_stuff(value, scored) + 1 if value < 90 else 0


def raw_city(value: int, scored: int) -> int:
    names = {number: name for name, number in CITY_IDS.items()}
    order = ["road", "", "", "", "fence", "", "traffic light", *[""] * 7, "truck", "", "train", "", "bicycle"]
    return order.index(names[value]) if value in names else -1


Meaning = Callable[[int, int], int]


class Layout(NamedTuple):
    make: Callable[[Path], Path]
    folder: str
    meaning: Meaning
    count: int
    image: str
    mask: str
    ignores: bool = True
    more: bool = False
    """Whether the folder of images has others, too."""


JPEG, YEAR, YEARS, D2 = (
    "JPEGImages/{}.jpg",
    "val2017/{}.jpg",
    "images/val2017/{}.jpg",
    "annotations_detectron2",
)
ADE, CITY = "images/validation/{}.jpg", "leftImg8bit/val/{}_leftImg8bit.png"


def made(name: str, images: str, masks: str, codes: tuple[int, ...], meaning: Meaning, count: int) -> Layout:
    """A set over COCO's images."""
    ending, place = masks.partition("{}")[2], masks.rpartition("/")[0]
    return Layout(
        lambda folder: make.coco(folder, place, ending, codes, images.rpartition("/")[0]),
        *(name, meaning, count, images, masks, -1 in {meaning(code, count) for code in codes}),
    )


LAYOUTS: dict[str, list[Layout]] = {
    "voc21": [Layout(make.voc, "VOCdevkit/VOC2012", same, 21, JPEG, "SegmentationClass/{}.png")],
    "voc20": [
        Layout(make.voc, "VOC2012", shifted, 20, JPEG, "SegmentationClass/{}.png"),
        Layout(make.voc_detectron, "VOC2012", same, 20, JPEG, f"{D2}/val/{{}}.png", more=True),
    ],
    "context60": [Layout(make.context, "VOC2010", same, 60, JPEG, "SegmentationClassContext/{}.png", False)],
    "context59": [
        Layout(make.context, "VOCdevkit/VOC2010", shifted, 59, JPEG, "SegmentationClassContext/{}.png"),
        Layout(make.context_detectron, "VOC2010", same, 59, JPEG, f"{D2}/pc59_val/{{}}.png", more=True),
    ],
    "coco_object": [
        made("coco_object", YEARS, "annotations/val2017/{}_instanceTrainIds.png", (0, 1, 80), same, 81),
        made("coco", YEAR, "stuffthingmaps/val2017/{}.png", RAW, raw_object, 81),
    ],
    "coco_stuff": [
        made("data/stuff", YEARS, "annotations/val2017/{}_labelTrainIds.png", (0, 5, 170, 255), same, 171),
        made("coco_stuff164k", YEARS, "annotations/val2017/{}.png", RAW, raw_stuff, 171),
        made("coco-stuff", YEARS, f"{D2}/val2017/{{}}.png", (0, 99, 170, 255), same, 171),
        made("coco", YEAR, "stuffthingmaps_detectron2/val2017/{}.png", (1, 170, 255), same, 171),
    ],
    "cityscapes": [
        Layout(
            lambda folder: make.cityscapes(folder, "labelTrainIds", (0, 18, 9, 255)),
            *("cityscapes", same, 19, CITY, "gtFine/val/{}_gtFine_labelTrainIds.png"),
        ),
        Layout(
            lambda folder: make.cityscapes(folder, "labelIds", (0, 6, 7, 13, 14, 19, 27, 29, 31, 33)),
            *("data/city", raw_city, 19, CITY, "gtFine/val/{}_gtFine_labelIds.png"),
        ),
    ],
    "ade20k": [
        Layout(make.ade, "ADEChallengeData2016", shifted, 150, ADE, "annotations/validation/{}.png"),
        Layout(
            lambda folder: make.ade(folder, D2, (0, 149, 255)),
            *("data/ade20k", same, 150, ADE, f"{D2}/validation/{{}}.png"),
        ),
    ],
    "mine": [Layout(make.plain, "mine", same, 3, "images/{}", "masks/{}.png")],
}
CASES = [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts]


class Case(NamedTuple):
    root: Path
    found: Segmented
    layout: Layout

    def stem(self, number: int) -> str:
        """What image and mask have in common, by the pattern of the masks."""
        folder = self.root / self.layout.folder
        path = (self.found.masks.folder / self.found.masks.names[number]).relative_to(folder).as_posix()
        before, after = self.layout.mask.split("{}")
        assert path.startswith(before)
        assert path.endswith(after)
        return path.removeprefix(before).removesuffix(after)


def pixels(path: Path) -> list[list[int]]:
    """The numbers in a file, pixel by pixel."""
    with Image.open(path) as image:
        return [[int(image.getpixel((x, y))) for x in range(image.width)] for y in range(image.height)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].mask.partition('/')[0]}")
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    name, layout = request.param
    layout.make(tmp_path / layout.folder)
    (found,) = open_sets(tmp_path, [name])
    assert isinstance(found, Segmented)
    assert name in find_benchmarks(tmp_path)
    return Case(tmp_path, found, layout)


def test_masks_are_what_the_files_hold(case: Case) -> None:
    found, layout = case.found, case.layout
    assert len(found) == len(found.masks) == len(found.images) == 2
    seen = set()
    for number in range(2):
        path = case.root / layout.folder / layout.mask.format(case.stem(number))
        picture, mask = found[number]
        assert mask.tolist() == [
            [layout.meaning(value, layout.count) for value in row] for row in pixels(path)
        ]
        assert mask.dtype == np.int64
        assert mask.shape == (picture.height, picture.width)
        seen |= set(mask.reshape(-1).tolist())
    assert min(seen) == (-1 if layout.ignores else 0)
    assert max(seen) == layout.count - 1 == len(found.classnames) - 1


def test_each_mask_lies_beside_its_image(case: Case) -> None:
    found, layout = case.found, case.layout
    for number in range(2):
        path = found.images.folder / found.images.names[number]
        expected = case.root / layout.folder / layout.image.format(case.stem(number))
        assert path == expected if expected.suffix else path.with_suffix("") == expected
        with Image.open(path) as stored:
            assert found.images[number].tobytes() == stored.convert("RGB").tobytes()
    assert len({found.images[number].getpixel((0, 0)) for number in range(2)}) == 2


def test_every_class_has_names(case: Case) -> None:
    found, count = case.found, case.layout.count
    assert len(set(found.classnames)) == len(found.synonyms) == count
    assert all(names and all(name == name.strip() != "" for name in names) for names in found.synonyms)
    assert (found.background == 0) == (found.name in ("voc21", "context60", "coco_object", "mine"))
    assert found.protocol == ("" if found.name == "mine" else found.name)


def test_a_value_without_a_meaning_is_refused(case: Case) -> None:
    masks = case.found.masks
    path = masks.folder / masks.names[1]
    make.mask(path, make.values((0, 254)))
    rule = rf"{path.name}: its values must be .* \(a class\).*, got 254 in column 1 of row 0.* in 10 pixels"
    with pytest.raises(DataError, match=rule):
        masks[1]
    assert masks[0].shape == (4, 5), "the others can be read"


def test_a_mask_of_another_size_is_refused(case: Case) -> None:
    masks = case.found.masks
    path = masks.folder / masks.names[0]
    make.mask(path, np.ones((5, 4)))
    with pytest.raises(
        DataError, match=rf"{path.name}: a mask must be of its image's size, 5 x 4 .*got 4 x 5"
    ):
        masks[0]


def test_missing_files_are_named(case: Case) -> None:
    for files in (case.found.masks, case.found.images):
        path = files.folder / files.names[0]
        kept = path.read_bytes()
        path.unlink()
        if files is case.found.masks and case.layout.more:
            assert len(load_benchmark(case.root, case.found.name)) == 1, (
                "images without masks belong to others"
            )
        else:
            with pytest.raises(DataError, match=rf"{path.stem}.* is missing: every image needs a mask"):
                load_benchmark(case.root, case.found.name)
        path.write_bytes(kept)
    assert len(load_benchmark(case.root, case.found.name)) == 2
