"""Numbers and names of a legend: each number on a picture is explained, each cut name can be told apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from patchclip.dense import overlay
from patchclip.dense._legend import MOST, Entry, fitting_both, with_legend
from patchclip.dense.overlay import draw_overlay


@pytest.mark.parametrize("background", [False, True])
def test_only_numbers_of_the_legend_stand_on_regions(
    monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    marked: list[str] = []
    entries: list[Entry] = []

    def marks(picture: Image.Image, found: Mapping[str, tuple[float, float]]) -> Image.Image:
        marked.extend(found)
        return picture

    def legend(picture: Image.Image, found: list[Entry], font: str | None) -> Image.Image:
        entries.extend(found)
        return with_legend(picture, found, font)

    monkeypatch.setattr(overlay, "with_marks", marks)
    monkeypatch.setattr(overlay, "with_legend", legend)
    for count in (48, 60):
        marked.clear()
        entries.clear()
        regions = np.arange(64).clip(max=count).reshape(8, 8) if background else np.arange(64) % count + 1
        label_map = np.kron(regions.reshape(8, 8), np.ones((12, 12), np.int64))
        names = tuple(f"name {i}" for i in range(64))
        draw_overlay(Image.new("RGB", label_map.shape[::-1]), label_map, names)
        listed = {entry.number for entry in entries[: MOST if len(entries) <= MOST else MOST - 1]}
        assert set(marked) == listed - {""}


def test_long_names_are_cut_in_the_middle() -> None:
    draw, font = ImageDraw.Draw(Image.new("RGB", (1, 1))), ImageFont.load_default(13)
    names = [f"label number {i}" for i in range(10, 19)]
    cut = [fitting_both(draw, name, font, 70) for name in names]
    assert len(set(cut)) == 9
    for name, text in zip(names, cut, strict=True):
        begin, end = text.split("…")
        assert name.startswith(begin)
        assert name.endswith(end)
        assert len(begin) >= len(end) >= 2
        assert draw.textlength(text, font) <= 70
    assert fitting_both(draw, names[0], font, 1000) == names[0]
    assert fitting_both(draw, names[0], font, 1) == "…"


def test_the_legend_shows_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def text(
        self: ImageDraw.ImageDraw, place: tuple[float, float], words: str, *rest: Any, **how: Any
    ) -> None:
        texts.append(words)
        draw(self, place, words, *rest, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    entries = [Entry((1, 2, 3), str(i), "short", 0.1) for i in range(20)]
    entries += [Entry((1, 2, 3), "", f"the same beginning of a label, number {i}", 0.1) for i in range(3)]
    with_legend(Image.new("RGB", (300, 200)), entries)
    cut = [text for text in texts if "…" in text]
    assert len(cut) == len(set(cut)) == 3
