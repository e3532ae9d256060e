"""A segmentation: probabilities and heat by hand, areas, COCO, and what it leaves on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from patchclip.dense.rle import decode
from patchclip.dense.segmentation import Segmentation
from patchclip.errors import ConfigError, DataError

LABELS = ("cat", "dog", "grass")


def made(scale: float = 2.0, **details: Any) -> Segmentation:
    """4 x 6 pixels on a grid of 2 x 3: the cat's column, the dog's, and one of no label."""
    label_map = np.zeros((4, 6), dtype=np.int64)
    label_map[:, :2], label_map[:, 2:4] = 1, 2
    scores = torch.tensor([[[0.9, 0.1, 0.3]] * 2, [[0.1, 0.8, 0.3]] * 2, [[0.3, 0.3, 0.3]] * 2])
    return Segmentation(Image.new("RGB", (6, 4), "grey"), LABELS, label_map, scores, scale, details)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=0))
    found: np.ndarray = powers / powers.sum(axis=0)
    return found


def test_probability_is_the_softmax_of_bilinear_scores() -> None:
    found = made()
    larger = torch.nn.functional.interpolate(found.scores[None], size=(4, 6), mode="bilinear")[0]
    expected = softmax(2.0 * larger.numpy())
    for i, label in enumerate(LABELS):
        assert np.allclose(found.probability(label), expected[i], atol=1e-6)
    total = np.add.reduce([found.probability(label) for label in LABELS])
    assert np.allclose(total, 1, atol=1e-6)


def test_heat_runs_from_0_to_1_over_the_image() -> None:
    heat = made().heat("cat")
    assert heat.shape == (4, 6)
    assert heat[0].tolist() == pytest.approx([1, 0.75, 0.25, 0.0625, 0.1875, 0.25])
    assert (made().heat("grass") == 0).all(), "it fits all patches alike"


def test_overlapping_patches_lie_where_they_are() -> None:
    """Patches of 4 pixels every 2: 8 x 6 pixels seen, centres at 2, 4, 6 along x and 2, 4 along y."""
    found = made(patch=4, step=2)
    assert found.place(0) == (2 * 6 / 8, 2 * 4 / 6)
    assert found.place(5) == (6 * 6 / 8, 4 * 4 / 6)
    assert made().place(5) == (5.0, 3.0)
    heat = found.heat("cat")[0]
    centres = (np.arange(6) + 0.5) * 8 / 6
    assert heat == pytest.approx(np.interp(centres, [2, 4, 6], [1, 0, 0.25]), abs=1e-6)


def test_areas_and_masks_count_pixels() -> None:
    found = made()
    assert found.areas() == {"cat": 8, "dog": 8, "grass": 0}
    assert found.mask("dog").sum() == 8
    assert found.mask("dog")[0].tolist() == [False, False, True, True, False, False]
    assert found.number("grass") == 3


def test_an_unknown_label_names_the_nearest() -> None:
    for ask in (made().probability, made().heat, made().mask):
        with pytest.raises(ConfigError, match="there is no label 'gras'; did you mean 'grass'"):
            ask("gras")


def test_coco_has_an_annotation_for_each_label_that_occurs() -> None:
    coco = made().to_coco(7, "a/b.jpg", 40)
    assert coco["images"] == [{"id": 7, "file_name": "a/b.jpg", "width": 6, "height": 4}]
    assert coco["categories"] == [{"id": i + 1, "name": name} for i, name in enumerate(LABELS)]
    cat, dog = coco["annotations"]
    assert (cat["id"], dog["id"]) == (40, 41)
    assert (cat["image_id"], cat["category_id"], dog["category_id"]) == (7, 1, 2)
    assert (dog["area"], dog["bbox"], dog["iscrowd"]) == (8, [2, 0, 2, 4], 0)
    assert np.array_equal(decode(dog["segmentation"]), made().mask("dog"))
    assert json.loads(json.dumps(coco)) == coco


def test_save_writes_overlay_labels_and_heat(tmp_path: Path) -> None:
    files = made().save(tmp_path / "new" / "folder", "a")
    names = ["a_overlay.png", "a_labels.png", "a_heat_cat.png", "a_heat_dog.png", "a_heat_grass.png"]
    assert [file.name for file in files] == names
    assert sorted(file.name for file in files[0].parent.iterdir()) == sorted(names)
    with Image.open(files[1]) as labels:
        assert np.array_equal(np.asarray(labels), made().label_map)
    with Image.open(files[2]) as heat:
        assert heat.mode == "P"
        assert np.array_equal(np.asarray(heat), (255 * made().heat("cat")).round())


def test_of_many_labels_the_largest_get_heat_maps(tmp_path: Path) -> None:
    files = made().save(tmp_path, "a", heats=2)
    assert [file.name for file in files[2:]] == ["a_heat_cat.png", "a_heat_dog.png"]
    assert len(made().save(tmp_path, "b", heats=0)) == 2
    with pytest.raises(ConfigError, match="heats=-1 must be at least 0"):
        made().save(tmp_path, heats=-1)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be made a folder"):
        made().save(tmp_path / "file")


def test_names_of_files_stay_in_the_folder(tmp_path: Path) -> None:
    found = made()
    evil = Segmentation(found.image, ("../../up", "a/b", "a b"), found.label_map, found.scores)
    for file in evil.save(tmp_path / "out", "../../x"):
        assert file.parent == tmp_path / "out"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *("x_overlay.png", "x_labels.png", "x_heat_up.png", "x_heat_a-b.png", "x_heat_a-b-2.png")
    }


def test_one_pixel(tmp_path: Path) -> None:
    found = Segmentation(
        Image.new("RGB", (1, 1)), ("cat",), np.ones((1, 1), np.int64), torch.full((1, 1, 1), 0.2)
    )
    assert found.probability("cat").tolist() == [[1.0]]
    assert found.heat("cat").tolist() == [[0.0]]
    assert found.to_coco()["annotations"][0]["segmentation"] == {"size": [1, 1], "counts": "01"}
    assert len(found.save(tmp_path)) == 3
    assert found.overlay().width >= 512


def test_more_than_254_labels_make_a_map_of_16_bits(tmp_path: Path) -> None:
    labels = tuple(f"label {i}" for i in range(300))
    label_map = np.arange(301).reshape(7, 43)
    found = Segmentation(Image.new("RGB", (43, 7)), labels, label_map, torch.rand(300, 1, 2))
    with Image.open(found.save(tmp_path, heats=0)[1]) as read:
        assert np.array_equal(np.asarray(read), label_map)
