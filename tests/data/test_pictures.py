"""Pictures of users: however stored, the same upright RGB, or an error that names file and cure."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchclip.data.pictures import as_picture, find_images, read_picture
from patchclip.errors import ConfigError, DataError

ORIENTATION = 0x0112


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def corner(image: Image.Image) -> tuple[int, ...]:
    found = image.getpixel((0, 0))
    assert isinstance(found, tuple)
    return found


@pytest.fixture
def marked() -> Image.Image:
    """Two rows of four pixels, the first one red."""
    image = Image.new("RGB", (4, 2), "blue")
    image.putpixel((0, 0), (255, 0, 0))
    return image


@pytest.mark.parametrize(
    ("turn", "size", "red"),
    [(1, (4, 2), (0, 0)), (3, (4, 2), (3, 1)), (6, (2, 4), (1, 0)), (8, (2, 4), (0, 3)), (2, (4, 2), (3, 0))],
)
def test_the_orientation_tag_is_applied(
    tmp_path: Path, marked: Image.Image, turn: int, size: tuple[int, int], red: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    for name in ("a.png", "a.tiff"):
        found = read_picture(saved(tmp_path / name, marked, exif=exif))
        assert found.size == size
        assert found.getpixel(red) == (255, 0, 0)
        assert found.getexif().get(ORIENTATION, 1) == 1


def test_a_turned_grey_picture_of_16_bits_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.fromarray(np.array([[65535, 0, 0]], dtype=np.uint16))
    found = read_picture(saved(tmp_path / "a.png", image, exif=exif))
    assert np.asarray(found)[..., 0].tolist() == [[255], [0], [0]]


def test_16_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 256 * 128, 65535, 300]], dtype=np.uint16)
    expected = [0, 1, 128, 255, 1]
    for name in ("a.png", "a.tiff"):
        found = np.asarray(read_picture(saved(tmp_path / name, Image.fromarray(values))))
        assert found.shape == (1, 5, 3)
        assert found[0, :, 1].tolist() == expected
    assert np.asarray(as_picture(values))[0, :, 0].tolist() == expected
    assert np.asarray(as_picture(np.stack([values] * 3, axis=2)))[0, :, 2].tolist() == expected


def test_colours_of_16_bits_a_channel_are_scaled(tmp_path: Path) -> None:
    """A PPM with a maximum of 65535, written by hand: Pillow writes none."""
    pixels = np.array([65535, 32896, 0], dtype=">u2").tobytes()
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 65535\n" + pixels)
    assert corner(read_picture(tmp_path / "a.ppm")) == (255, 128, 0)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    clear.putpixel((1, 1), (10, 20, 30, 255))
    found = read_picture(saved(tmp_path / "a.png", clear))
    assert (corner(found), found.getpixel((1, 1))) == ((255, 255, 255), (10, 20, 30))
    half = as_picture(np.full((1, 1, 4), 128, np.uint8))
    assert corner(half)[0] == round(128 * 128 / 255 + 255 * 127 / 255)
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([9, 9, 9, 1, 2, 3])
    indexed.putpixel((1, 0), 1)
    found = read_picture(saved(tmp_path / "p.png", indexed, transparency=0))
    assert (corner(found), found.getpixel((1, 0))) == ((255, 255, 255), (1, 2, 3))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    found = as_picture(Image.new("RGB", (3, 2), "white").convert(mode))
    assert (found.mode, found.size, corner(found)) == ("RGB", (3, 2), (255, 255, 255))


def test_cmyk_of_a_file(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    found = read_picture(saved(tmp_path / "a.jpg", image, quality=95))
    assert found.mode == "RGB"
    assert np.abs(np.subtract(corner(found), (255, 0, 0))).max() <= 8


def test_the_first_frame_of_an_animation_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "lime")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.WARNING):
        found = read_picture(path)
    assert corner(found) == (255, 0, 0)
    assert "a.gif has several frames: the first is used" in caplog.text


def test_a_damaged_exif_block_is_noted(
    tmp_path: Path, marked: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / "a.jpg", marked, exif=b"Exif\0\0II*\0broken")
    with caplog.at_level(logging.WARNING):
        assert read_picture(path).size == (4, 2)


def test_one_pixel(tmp_path: Path) -> None:
    assert corner(read_picture(saved(tmp_path / "a.png", Image.new("RGB", (1, 1), (1, 2, 3))))) == (1, 2, 3)


def test_arrays() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    assert np.array_equal(np.asarray(as_picture(pixels)), pixels)
    assert np.array_equal(np.asarray(as_picture(pixels[:, ::-1])), pixels[:, ::-1])
    for grey in (pixels[..., 0], pixels[..., :1]):
        assert np.array_equal(np.asarray(as_picture(grey))[..., 2], pixels[..., 0])
    for wrong in (
        pixels.astype(float),
        pixels[..., :2],
        pixels[0, 0],
        np.zeros((0, 4, 3), np.uint8),
        pixels > 1,
    ):
        with pytest.raises(ConfigError, match="uint8 or uint16: convert it first"):
            as_picture(wrong)
    with pytest.raises(ConfigError, match="image=list must be a path"):
        as_picture([pixels])


def test_longest_makes_smaller_but_never_larger(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    path = saved(tmp_path / "a.jpg", Image.fromarray(noise))
    assert read_picture(path, 30).size == (30, 20)
    assert read_picture(path, 500).size == (90, 60)
    assert as_picture(noise[:, :1], 6).size == (1, 6)
    with pytest.raises(ConfigError, match="longest=0 must be at least 1"):
        as_picture(noise, 0)


def test_a_large_jpeg_is_decoded_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """draft() is asked for the size before any pixel is decoded."""
    sizes = []
    load = Image.Image.resize

    def resize(self: Image.Image, *args: Any, **options: Any) -> Image.Image:
        sizes.append(self.size)
        return load(self, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", resize)
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (1600, 800), "teal"))
    assert read_picture(path, 100).size == (100, 50)
    assert sizes == [(200, 100)]


def test_what_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = saved(tmp_path / "a.png", Image.new("RGB", (30, 20), "red"))
    torn, text, empty = tmp_path / "torn.png", tmp_path / "text.jpg", tmp_path / "empty.webp"
    torn.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    text.write_text("no picture")
    empty.write_bytes(b"")
    with pytest.raises(DataError, match=r"torn\.png cannot be used: the image cannot be decoded"):
        read_picture(torn)
    with pytest.raises(DataError, match=r"text\.jpg cannot be used: .* must be JPEG, PNG"):
        read_picture(text)
    with pytest.raises(DataError, match=r"empty\.webp cannot be used: the image file is empty"):
        read_picture(empty)
    with pytest.raises(DataError, match=r"none\.png cannot be read .*name an image file"):
        as_picture(str(tmp_path / "none.png"))
    with pytest.raises(DataError, match=r"is a folder: name its image files"):
        as_picture(tmp_path)
    floats = saved(tmp_path / "f.tiff", Image.fromarray(np.ones((2, 2), np.float32)))
    with pytest.raises(DataError, match="8 or 16 bits a channel first"):
        read_picture(floats)
    deep = saved(tmp_path / "i.tiff", Image.fromarray(np.full((2, 2), 70000, np.int32)))
    with pytest.raises(DataError, match="its pixels are from 70000 to 70000"):
        read_picture(deep)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.raises(
        DataError, match=r"a\.png cannot be used: .*make it smaller first, at most 599 pixels"
    ):
        read_picture(image)


def test_files_folders_and_patterns_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt", "deep/c.tif", "odd[1].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    def names(*inputs: str | Path) -> list[str]:
        return [path.as_posix() for path in find_images(inputs)]

    assert names(".") == ["a.JPG", "b.png", "odd[1].png"]
    assert names("deep", "b.png", ".", "./b.png") == ["deep/c.tif", "b.png", "a.JPG", "odd[1].png"]
    assert names("*.png") == ["b.png", "odd[1].png"]
    assert names("**/*.tif", "b.png") == ["deep/c.tif", "b.png"]
    assert names("odd[1].png") == ["odd[1].png"]
    assert names("missing.png") == ["missing.png"], "reading it says what is wrong"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no image: name a folder with files that end in webp"):
        names("empty")
    with pytest.raises(DataError, match=r"'\*\.gif' matches no file"):
        names("*.gif")
    with pytest.raises(ConfigError, match="no image was given"):
        names()


def test_pixels_of_an_ordinary_file_are_untouched() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (7, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    with Image.open(buffer) as image:
        assert np.array_equal(np.asarray(as_picture(image)), pixels)
