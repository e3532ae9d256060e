"""Shots of images: read when they are asked for, kept while there is room."""

import pytest
import torch
from PIL import Image
from torch import Tensor

from patchclip.adapt import shots as module
from patchclip.adapt.shots import ImageShots
from patchclip.errors import DataError


class Counted:
    """Images that count how often they are read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Image.Image:
        if index == 4:
            raise DataError("4.png: torn")
        self.read.append(index)
        return Image.new("RGB", (2, 2), (index, 0, 0))


def preprocess(image: Image.Image) -> Tensor:
    red = image.getpixel((0, 0))
    assert isinstance(red, tuple)
    return torch.full((3, 2, 2), float(red[0]))


def test_rows_are_the_chosen_images_read_once() -> None:
    images = Counted()
    found = ImageShots(images, torch.tensor([1, 0, 1]), preprocess, [3, 0, 2])
    assert images.read == []
    assert found.pixels([0, 2, 0])[:, 0, 0, 0].tolist() == [3, 2, 3]
    assert found.pixels([2, 1])[:, 0, 0, 0].tolist() == [2, 0]
    assert images.read == [3, 2, 0]
    assert found.labels.tolist() == [1, 0, 1]
    assert len(found) == 3


def test_without_room_they_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", 12 * 4)
    images = Counted()
    found = ImageShots(images, torch.zeros(2, dtype=torch.int64), preprocess, [0, 1])
    found.pixels([0, 1])
    found.pixels([0, 1])
    assert images.read == [0, 1, 1]


def test_what_is_wrong_is_told() -> None:
    with pytest.raises(DataError, match="2 images and 1 labels"):
        ImageShots(Counted(), torch.zeros(1, dtype=torch.int64), preprocess, [0, 1])
    with pytest.raises(DataError, match="torn"):
        ImageShots(Counted(), torch.zeros(5, dtype=torch.int64), preprocess).pixels([4])
