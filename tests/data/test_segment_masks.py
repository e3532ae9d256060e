"""Masks as they are stored: palettes, few and many bits, colours, damage."""

import io

import numpy as np
import pytest
from PIL import Image

from patchclip.data.layouts.segment_masks import Codes, read_values
from patchclip.errors import DataError
from tests.data import _make_segmented as make


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_numbers_of_any_depth_are_read_as_stored(bits: int) -> None:
    array = make.values(range(min(2**bits, 20))) * (3000 if bits == 16 else 1)
    assert read_values(make.grey(array, bits), "m.png").tolist() == array.tolist()


def test_palettes_and_booleans_are_numbers() -> None:
    array = make.values((0, 1, 15, 255))
    image = Image.fromarray(array.astype(np.uint8))
    image.putpalette([(91 * i + 5) % 256 for i in range(768)])
    assert image.mode == "P"
    assert read_values(png(image), "m.png").tolist() == array.tolist()
    few = make.values((0, 1, 2))
    image = Image.fromarray(few.astype(np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    buffer = io.BytesIO()
    image.save(buffer, "png", bits=2)
    assert buffer.getvalue()[24:26] == b"\x02\x03", "a palette of two bits a pixel"
    assert read_values(buffer.getvalue(), "m.png").tolist() == few.tolist()
    assert read_values(png(Image.fromarray(few == 1)), "m.png").tolist() == (few == 1).astype(int).tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused(mode: str) -> None:
    with pytest.raises(
        DataError, match=rf"m.png: a mask must hold one class number .* got mode {mode}: replace"
    ):
        read_values(png(Image.new(mode, (3, 2))), "m.png")


def test_other_and_damaged_files_are_refused() -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "jpeg")
    with pytest.raises(DataError, match=r"m.png: a mask must be a PNG; other formats may change its numbers"):
        read_values(buffer.getvalue(), "m.png")
    whole = make.grey(make.values((0, 1)), 8)
    for damaged in (b"", whole[:50], whole[:45] + b"\0\0\0\0" + whole[49:]):
        with pytest.raises(DataError, match=r"m.png: "):
            read_values(damaged, "m.png")


def test_a_huge_mask_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"cannot be decoded .DecompressionBomb"):
        read_values(make.grey(make.values((0, 1)), 8), "m.png")


def test_codes_tell_what_they_allow() -> None:
    codes = Codes.numbered(3, 1, (255, 9))
    assert codes.rule == "1 to 3 (a class) or 0, 9, 255 (not scored)"
    array = np.array([[0, 1, 2], [3, 9, 255]])
    assert codes.classes_of(array, "m").tolist() == [[-1, 0, 1], [2, -1, -1]]
    for wrong in (4, 254, 256, -1, 65535):
        with pytest.raises(DataError, match=rf"m: its values must be .*, got {wrong} in column 0 of row 0"):
            codes.classes_of(np.array([[wrong]]), "m")
    assert Codes.numbered(300).classes_of(np.array([[255, 299]]), "m").tolist() == [[255, 299]]
    with pytest.raises(DataError, match=r"must be in \[0, 65536\), got 70000"):
        Codes.of({70000: 1})
