"""Pictures with their foregrounds: where masks come from, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchclip.data.scenes import MOST_IMAGES, read_scenes
from patchclip.errors import ConfigError, DataError


def save(path: Path, mode: str = "RGB", size: tuple[int, int] = (4, 2), colour: object = None) -> Path:
    Image.new(mode, size, colour or 0).save(path)  # type: ignore[arg-type]
    return path


def test_a_picture_alone_has_no_foreground(tmp_path: Path) -> None:
    [scene] = read_scenes([save(tmp_path / "a.png", colour=(9, 8, 7))])
    assert (scene.name, scene.image.mode, scene.image.size) == ("a", "RGB", (4, 2))
    assert scene.image.getpixel((0, 0)) == (9, 8, 7)
    assert scene.foreground is None


@pytest.mark.parametrize("ending", [".mask.png", ".inst.png"])
def test_a_file_beside_the_picture_is_its_foreground(tmp_path: Path, ending: str) -> None:
    ids = np.zeros((2, 4), dtype=np.uint8)
    ids[1, 2:] = 3  # an instance number, not 255
    Image.fromarray(ids).save(tmp_path / f"a{ending}")
    [scene] = read_scenes([save(tmp_path / "a.jpg")])
    assert scene.foreground is not None
    assert np.asarray(scene.foreground).tolist() == [[0] * 4, [0, 0, 255, 255]]


def test_a_given_mask_goes_before_one_beside_and_alpha(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", "RGBA", colour=(1, 2, 3, 100))
    [alpha] = read_scenes([image])
    assert alpha.foreground is not None
    assert alpha.foreground.getextrema() == (100, 100)
    assert alpha.image.getpixel((0, 0)) == (1, 2, 3)
    half = Image.new("1", (4, 2))
    half.putpixel((0, 0), 1)
    half.save(tmp_path / "half.png")
    [given] = read_scenes([image], [tmp_path / "half.png"])
    assert given.foreground is not None
    assert np.asarray(given.foreground).tolist() == [[255, 0, 0, 0], [0] * 4]


def test_an_opaque_alpha_channel_says_nothing(tmp_path: Path) -> None:
    [scene] = read_scenes([save(tmp_path / "a.png", "RGBA", colour=(1, 2, 3, 255))])
    assert scene.foreground is None


def test_what_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = save(tmp_path / "a.png")
    torn = tmp_path / "torn.png"
    torn.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(DataError, match="is a folder: name its image files"):
        read_scenes([tmp_path])
    with pytest.raises(DataError, match="cannot be read"):
        read_scenes([tmp_path / "nothing.png"])
    with pytest.raises(DataError, match="cannot be decoded"):
        read_scenes([torn])
    with pytest.raises(DataError, match=r"torn\.png cannot be used"):
        read_scenes([image], [torn])
    with pytest.raises(DataError, match=r"has 2 x 2 pixels but .* has 4 x 2"):
        read_scenes([image], [save(tmp_path / "small.png", "L", (2, 2), 255)])
    with pytest.raises(DataError, match="is empty"):
        read_scenes([image], [save(tmp_path / "black.png", "L")])
    with pytest.raises(DataError, match="transparent everywhere"):
        read_scenes([save(tmp_path / "clear.png", "RGBA")])
    with pytest.raises(ConfigError, match="2 masks were given for 1 images"):
        read_scenes([image], [image, image])
    for count in (0, MOST_IMAGES + 1):
        with pytest.raises(ConfigError, match=f"{count} images were given"):
            read_scenes([image] * count)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)
    with pytest.raises(DataError, match="make it smaller first, at most 7 pixels"):
        read_scenes([image])
