"""The contact sheet, by its pixels; the page's sheet, by its drawings."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from patchclip.errors import ConfigError, DataError
from patchclip.report import sheet
from patchclip.report.beside import veil
from patchclip.report.mask_sheet import mask_sheet
from patchclip.report.sheet import Column, Line


def flat(colour: str, size: tuple[int, int] = (160, 160)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_dropped_patches_are_faded_and_kept_ones_untouched() -> None:
    image = flat("#204060", (6, 4))
    pixels = np.asarray(sheet.faded(image, torch.tensor([0, 5]), (2, 3)))
    faint = [round(0.1 * own + 0.9 * to) for own, to in zip((32, 64, 96), sheet.VEIL, strict=True)]
    corners = pixels[::2, ::2].tolist()
    own = [32, 64, 96]
    assert corners == [[own, faint, faint], [faint, faint, own]]
    assert (pixels == np.kron(pixels[::2, ::2], np.ones((2, 2, 1)))).all()


def test_a_white_patch_that_is_dropped_differs_from_one_that_is_kept() -> None:
    pixels = np.asarray(sheet.faded(flat("white", (2, 1)), torch.tensor([0]), (1, 2)))
    assert pixels[0, 0].tolist() == [255] * 3
    assert pixels[0, 1].max() < 248


def test_a_resized_picture_shows_fewer_pixels_at_the_same_size() -> None:
    stripes = torch.zeros(8, 8, 3, dtype=torch.uint8)
    stripes[:, ::2] = 255
    small = sheet.shrunk(stripes, (2, 2), (4, 4), (16, 16))
    assert small.size == (16, 16)
    pixels = np.asarray(small)
    assert (pixels == np.kron(pixels[::4, ::4], np.ones((4, 4, 1)))).all()
    assert pixels.min() > 90
    assert pixels.max() < 165


@pytest.mark.parametrize("columns", [2, 5, 13, 40])
@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (24, 24), (8, 16)])
def test_cells_are_whole_pixels_a_patch_and_legible(columns: int, grid: tuple[int, int]) -> None:
    width, height = sheet.cell_size(columns, grid)
    assert width % grid[1] == height % grid[0] == 0
    assert 120 <= max(width, height) <= sheet.WIDEST


@pytest.mark.parametrize("columns", [1, 2, 13])
@pytest.mark.parametrize("rows", [1, 20])
def test_pictures_stand_in_rows_and_columns_with_even_margins(columns: int, rows: int) -> None:
    made = [Column(f"s{i}", [flat("#00ff00")] * rows, "a note" * (i % 2)) for i in range(columns)]
    page = sheet.draw_sheet(made)
    green = (np.asarray(page) == (0, 255, 0)).all(axis=2)
    across, down = np.where(green.any(axis=0))[0], np.where(green.any(axis=1))[0]
    assert green.sum() == columns * rows * 160 * 160
    assert across[0] == sheet.MARGIN
    assert page.width - 1 - across[-1] == sheet.MARGIN
    assert page.height - 1 - down[-1] == sheet.MARGIN
    assert len(across) == columns * 160
    assert len(down) == rows * 160
    head = np.asarray(page)[: down[0] - 2]
    assert (head != 255).any(), "titles are drawn"
    assert (head[: sheet.MARGIN - 6] == 255).all()


def test_titles_stay_inside_their_columns() -> None:
    long = "a_very_long_name_of_a_strategy_indeed"
    made = [
        Column("", [flat("#00ff00")]),
        Column(long, [flat("#00ff00")], "x" * 60),
        Column("", [flat("#00ff00")]),
    ]
    page = np.asarray(sheet.draw_sheet(made))
    left, right = sheet.MARGIN + 160, sheet.MARGIN + 160 + 2 * sheet.GAP + 160
    top = np.where((page == (0, 255, 0)).all(axis=2).any(axis=1))[0][0] - 1
    assert (page[:top, left:right] != 255).any()
    assert (page[:top, :left] == 255).all()
    assert (page[:top, right:] == 255).all()


def test_bars_are_as_long_as_their_shares() -> None:
    made = [Column("", [flat("white")])] * 4
    line = Line("share", "note", ["25 %", "-", "100 %"], [0.25, math.nan, 1.0], [0.5, 0.5, 0.5])
    page = np.asarray(sheet.draw_sheet(made, [line], "a caption"))
    blue = (page == (0x2F, 0x6F, 0x9F)).all(axis=2)
    widths = [
        blue[:, sheet.MARGIN + i * 170 : sheet.MARGIN + i * 170 + 160].any(axis=0).sum() for i in (1, 2, 3)
    ]
    length = 160 - 2 * (160 // 6)
    assert widths[0] == round(0.25 * length) + 1
    assert widths[1] == 0
    assert length <= widths[2] <= length + 1


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".JPEG"])
def test_the_suffix_is_the_format(tmp_path: Path, suffix: str) -> None:
    path = sheet.save_sheet(flat("#336699", (9, 5)), tmp_path / f"sheet{suffix}")
    with Image.open(path) as image:
        assert image.format == sheet.FORMATS[suffix.lower()]
        assert image.size == (9, 5)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_where_nothing_can_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.png, \.webp"):
        sheet.save_sheet(flat("red"), tmp_path / "sheet.gif")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        sheet.save_sheet(flat("red"), tmp_path / "folder.png")
    with pytest.raises(DataError, match="create it first"):
        sheet.save_sheet(flat("red"), tmp_path / "no" / "sheet.png")

    def full(self: Image.Image, *args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match="No space left"):
        sheet.save_sheet(flat("red"), tmp_path / "sheet.png")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_the_sheet_of_images_shows_what_is_kept(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "#00ff00").save(tmp_path / "a.png")
    made = mask_sheet([tmp_path / "a.png"] * 2, strategies="none,random", ratio=0.75, size=64, compare=True)
    green = (np.asarray(made.picture) == (0, 255, 0)).all(axis=2).sum()
    width, height = sheet.cell_size(3, (4, 4))
    assert green == 2 * width * height * (1 + 1 + 0.25)
    found = made.to_json()
    assert found["strategies"][1]["kept"] == 4
    assert found["strategies"][0]["entropy_bits"] == {"mean": 0.0, "images": [0.0, 0.0]}
    assert found["strategies"][0]["foreground_kept"]["mean"] is None
    assert found["overlap"][0] == [1.0, 0.25]
    assert found["progress"] == 0.0


def test_settings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    images = [tmp_path / "a.png"]
    with pytest.raises(ConfigError, match="did you mean 'ratio'"):
        mask_sheet(images, ration=0.5)
    with pytest.raises(ConfigError, match=r"progress=0\.5 needs a model"):
        mask_sheet(images, progress=0.5)
    with pytest.raises(ConfigError, match="size=32 is the model's own"):
        mask_sheet(images, model="ViT-B-16:random", size=32)


def test_the_veil_covers_each_dropped_patch_once() -> None:
    assert veil(torch.tensor([0, 5]), (2, 3)) == "M1 0h2v1h-2zM0 1h2v1h-2z"
    assert veil(torch.arange(6), (2, 3)) == ""
