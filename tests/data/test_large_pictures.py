"""Pictures beyond Pillow's limit, names that no file can have, and results among the pictures of a folder."""

import inspect
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchclip.data.pictures import as_picture, find_images, read_picture
from patchclip.errors import ConfigError, DataError


def jpeg(path: Path, size: tuple[int, int] = (400, 300), **options: Any) -> Path:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    image.save(path, quality=95, **options)
    return path


@pytest.mark.parametrize("limit", [100_000, 50_000], ids=["a warning of Pillow", "an error of Pillow"])
def test_a_jpeg_beyond_the_limit_is_decoded_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """120,000 pixels; drafted to 200 x 150 they are 30,000."""
    path = jpeg(tmp_path / "a.jpg")
    expected = np.asarray(read_picture(path, 100), dtype=int)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_picture(path, 100)
    assert found.size == (100, 75)
    assert np.array_equal(np.asarray(found), expected)
    with pytest.raises(DataError, match=r"a\.jpg cannot be used: .*make it smaller.* or pass longest"):
        read_picture(path)


def test_it_is_turned_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    found = read_picture(jpeg(tmp_path / "a.jpg", exif=exif), 100)
    assert found.size == (75, 100)
    red = found.getpixel((40, 10))
    assert isinstance(red, tuple)
    assert red[0] > 200


def test_it_is_drafted_to_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the longest would be the whole picture; half of it is within the limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    assert read_picture(jpeg(tmp_path / "a.jpg"), 180).size == (180, 135)


def test_what_stays_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = jpeg(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    with pytest.raises(DataError, match=r"a\.jpg cannot be used: .*DecompressionBomb.*at most 50000 pixels"):
        read_picture(path, 300)
    tower = jpeg(tmp_path / "b.jpg", progressive=True)
    with pytest.raises(DataError, match=r"b\.jpg cannot be used: .*progressive"):
        read_picture(tower, 100)
    Image.new("RGB", (400, 300)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png cannot be used: .*DecompressionBomb"):
        read_picture(tmp_path / "c.png", 100)


def test_without_a_limit_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_picture(jpeg(tmp_path / "a.jpg"), 100).size == (100, 75)


@pytest.mark.parametrize("data", [b"\xff\xd8garbage", b"\xff\xd8", b"\xff\xd8\xff\xe0"])
def test_a_jpeg_in_its_first_bytes_only(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.jpg cannot be used"):
        read_picture(path, 2000)


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "a\0.jpg", "x" * 300 + "*.jpg", "~" * 5000])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read|matches no file"):
        find_images([name])
    with pytest.raises(DataError, match="cannot be read"):
        as_picture(name)


def test_results_among_the_pictures_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = ("b_overlay.png", "b_labels.png", "b_heat_the-cat.png")
    theirs = ("b.png", "c_labels.png", "d_overlay.png", "d_heat_cat.png", "b_heating.png")
    for name in (*ours, *theirs):
        (tmp_path / name).touch()

    def names(*inputs: str | Path) -> list[str]:
        return [path.name for path in find_images(inputs)]

    with caplog.at_level(logging.WARNING):
        assert names(tmp_path) == sorted(theirs)
    assert "3 results of segment are left out: b_heat_the-cat.png, b_labels.png, b_overlay.png" in caplog.text
    assert names(tmp_path / "*.png") == sorted(theirs)
    assert names(tmp_path / "b_overlay.png") == ["b_overlay.png"], "one that is named is taken"
    for name in theirs:
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="holds no image"):
        names(tmp_path)


@pytest.mark.parametrize("longest", ["100", 1.5, True])
def test_longest_is_a_whole_number(longest: Any) -> None:
    with pytest.raises(ConfigError, match=r"longest=.* must be a whole number"):
        inspect.unwrap(as_picture)(np.zeros((2, 2), np.uint8), longest)  # types are checked in tests only


def test_pictures_of_odd_modes_or_cut_short(tmp_path: Path) -> None:
    grey = Image.new("LA", (2, 2), (100, 255)).convert("La")
    assert as_picture(grey).getpixel((0, 0)) == (100, 100, 100)
    path = jpeg(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as lazy, pytest.raises(DataError, match="the image cannot be used"):
        as_picture(lazy)
    with pytest.raises(ConfigError, match="pass a list of paths"):
        as_picture(np.array(["a.jpg", "b.jpg"]))
