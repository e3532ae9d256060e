"""Overlays: the right colour in the right place, smooth borders, a legend that covers nothing."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from patchclip.dense import _legend, overlay
from patchclip.dense._legend import MOST, Entry, fitting, letters_for, share_text, with_legend
from patchclip.dense._marks import depths, mark_places
from patchclip.dense.overlay import SMALL, Scale, draw_overlay
from patchclip.dense.palette import region_colour
from patchclip.errors import ConfigError

GREY = (120, 120, 120)


def halves(height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), dtype=np.int64)
    labels[:, width // 2 :] = 1
    return labels


def drawn(labels: np.ndarray, names: tuple[str, ...] = ("cat", "dog"), **options: object) -> np.ndarray:
    image = Image.new("RGB", labels.shape[::-1], GREY)
    return np.asarray(draw_overlay(image, labels, names, **options))  # type: ignore[arg-type]


def blended(label: int, opacity: float = 0.55) -> np.ndarray:
    return opacity * np.array(region_colour(label)) + (1 - opacity) * np.array(GREY)


def test_inside_a_region_colour_and_picture_are_blended() -> None:
    seen = drawn(halves(600, 800), legend=False)
    assert seen.shape == (600, 800, 3)
    assert np.abs(seen[300, 100] - np.array(GREY)).max() <= 1, "without a label the picture shows as it is"
    assert np.abs(seen[300, 700] - blended(1)).max() <= 1
    assert np.abs(drawn(halves(600, 800), legend=False, opacity=1.0)[9, 700] - region_colour(1)).max() <= 1
    assert np.abs(drawn(halves(600, 800), legend=False, opacity=0.0)[9, 700] - GREY).max() <= 1


def test_the_border_is_a_thin_light_line_where_the_labels_change() -> None:
    row = drawn(halves(600, 800), legend=False)[300].astype(int).sum(axis=1)
    assert abs(int(row.argmax()) - 399.5) <= 0.5
    bright = np.flatnonzero(row > 600)
    assert 1 <= len(bright) <= 4
    assert np.ptp(bright) == len(bright) - 1


def test_a_slanted_border_has_no_steps() -> None:
    """Per row the outline's centre, weighed by brightness, lies on the straight line, within a third."""
    rows, columns = np.mgrid[:600, :600]
    labels = (columns > 150 + rows / 3).astype(np.int64)
    seen = drawn(labels, legend=False).astype(float).min(axis=2)
    centres = []
    for y in range(150, 450):
        x = np.arange(130 + y // 3, 172 + y // 3)
        weight = (seen[y, x] - 150).clip(0)
        centres.append((weight * (x + 0.5)).sum() / weight.sum())
    line = np.polyval(np.polyfit(range(300), centres, 1), range(300))
    assert abs(np.polyfit(range(300), centres, 1)[0] - 1 / 3) < 0.002
    assert np.abs(centres - line).max() < 0.35
    assert (centres - line).std() < 0.15
    stairs = np.ceil(150 + np.arange(150, 450) / 3)
    assert (stairs - np.polyval(np.polyfit(range(300), stairs, 1), range(300))).std() > 0.25


@pytest.mark.parametrize(
    ("size", "expected"),
    [((48, 64), (384, 512)), ((1, 1), (512, 512)), ((2, 3000), (2, 3000)), ((600, 900), (600, 900))],
)
def test_small_pictures_are_enlarged_a_whole_number_of_times(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert drawn(np.ones(size, np.int64), legend=False).shape[:2] == expected
    assert max(expected) >= SMALL


def test_strips_show_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (9, 11)).repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng(1).integers(0, 256, (*labels.shape, 3), np.uint8)
    for reduced in (1600, 40):
        monkeypatch.setattr(overlay, "SKETCH", reduced)
        monkeypatch.setattr(overlay, "STRIP", 1 << 20)
        whole = np.asarray(draw_overlay(Image.fromarray(noise), labels, ("a", "b"), legend=False))
        monkeypatch.setattr(overlay, "STRIP", 1)
        assert len(list(Scale.of((72, 88)).strips())) > 20
        parts = np.asarray(draw_overlay(Image.fromarray(noise), labels, ("a", "b"), legend=False))
        assert np.abs(whole.astype(int) - parts).max() <= 1


def test_large_pictures_take_their_borders_from_a_sketch(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((601, 803), np.int64)
    labels[:, 401:] = 2
    exact = drawn(labels, legend=False).astype(int)
    monkeypatch.setattr(overlay, "SKETCH", 200)
    rough = drawn(labels, legend=False).astype(int)
    assert rough.shape == exact.shape
    for x in (100, 380, 425, 700):
        assert np.abs(rough[300, x] - exact[300, x]).max() <= 1
    assert abs(int(rough[300].sum(axis=1).argmax()) - int(exact[300].sum(axis=1).argmax())) <= 3


def test_the_legend_names_what_is_there_and_covers_nothing() -> None:
    wide, tall = halves(500, 800), halves(800, 500)
    for labels in (wide, tall):
        alone, seen = drawn(labels, legend=False), drawn(labels)
        height, width = labels.shape
        assert np.array_equal(seen[:height, :width], alone)
        assert (seen.shape[0] > height, seen.shape[1] > width) == (
            (True, False) if labels is wide else (False, True)
        )
        rest = seen[height:] if labels is wide else seen[:, width:]
        colours = {tuple(pixel) for pixel in rest.reshape(-1, 3).tolist()}
        assert region_colour(1) in colours
        assert region_colour(2) not in colours, "the dog is nowhere"


def test_without_any_label_the_legend_says_so() -> None:
    assert drawn(np.zeros((600, 800), np.int64)).shape[0] > 600


@pytest.mark.parametrize("size", [(64, 64), (40, 900), (900, 40), (1, 1), (900, 600)])
def test_many_labels_stay_inside_the_page(size: tuple[int, int]) -> None:
    labels = np.arange(size[0] * size[1]).reshape(size) % 25
    names = tuple(f"{i} a very long name of a thing that nobody would ever call so" for i in range(24))
    page = drawn(labels, names)
    beside = size[0] > 1.15 * size[1]
    assert (page[:, -2:] == 255).all() if beside else (page[-2:] == 255).all()
    assert page.shape[0] * page.shape[1] < 40 * max(size[0] * size[1], 512 * 512)


def test_of_many_labels_regions_carry_numbers() -> None:
    labels = np.kron(np.arange(12).reshape(3, 4), np.ones((200, 200), np.int64))
    names = tuple("abcdefghijkl")
    seen, few = drawn(labels, names, legend=False), drawn(labels.clip(0, 8), names, legend=False)
    centre = seen[60:140, 260:340]
    assert centre.max() == 255, "a white number"
    assert few[60:140, 260:340].max() < 255


def test_places_of_numbers_lie_deep_inside() -> None:
    labels = np.zeros((90, 60), np.int64)
    labels[10:50, 20:60] = 3
    labels[70:72] = 5
    places = mark_places(labels, [3, 5])
    assert list(places) == [3], "a thin stripe has no room"
    x, y = places[3]
    assert 30 <= x * 60 <= 50
    assert 22 <= y * 90 <= 38
    assert depths(np.ones((5, 5), bool)).tolist()[2] == [1, 2, 3, 2, 1]


def test_names_that_are_too_long_end_in_an_ellipsis() -> None:
    draw, font = ImageDraw.Draw(Image.new("RGB", (1, 1))), ImageFont.load_default(16)
    name = "a person who rides a bicycle along the river"
    short = fitting(draw, name, font, 120)
    assert short.endswith("…")
    assert name.startswith(short[:-1])
    assert draw.textlength(short, font) <= 120
    assert draw.textlength(name[: len(short)] + "…", font) > 120
    assert fitting(draw, name, font, 1000) == name
    assert fitting(draw, name, font, 1) == "…"


def test_a_legend_of_hundreds_sums_up_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(_legend, "fitting_both", lambda draw, text, font, room: texts.append(text) or text)
    entries = [Entry((1, 2, 3), str(i), f"name {i}", 0.005) for i in range(200)]
    with_legend(Image.new("RGB", (900, 600)), entries)
    assert len(texts) == MOST
    assert texts[-1] == "153 more"
    assert with_legend(Image.new("RGB", (9, 6)), []).size == (9, 6)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.4213, "42%"),
        (0.0995, "10%"),
        (0.0421, "4.2%"),
        (0.001, "0.1%"),
        (0.0002, "<0.1%"),
        (0, "0%"),
        (1, "100%"),
    ],
)
def test_shares(share: float, text: str) -> None:
    assert share_text(share) == text


def test_letters_that_the_own_font_lacks(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = letters_for("plain…", 16).getname()[0]  # type: ignore[union-attr]
    assert own == ImageFont.load_default(16).getname()[0]  # type: ignore[union-attr]
    monkeypatch.setattr(_legend, "SYSTEM_FONTS", ("no such font.ttf",))
    with caplog.at_level(logging.WARNING):
        letters_for("猫 and Ж", 16)
    assert "all letters of the labels (Ж猫)" in caplog.text


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"opacity=1\.5 must be in"):
        drawn(halves(4, 4), opacity=1.5)
    (tmp_path / "font.ttf").write_text("no font")
    with pytest.raises(ConfigError, match=r"font=.*font\.ttf' cannot be read"):
        drawn(halves(4, 4), font=str(tmp_path / "font.ttf"))
