"""Drawings: bars as high as their values, points where they belong, words escaped."""

import re
import xml.etree.ElementTree as ET

import torch

from patchclip.report.geometry.drawings import HEIGHT, histogram, layer_bars, scatter
from tests.report._runs import HOSTILE


def svg(drawing: str) -> ET.Element:
    return ET.fromstring(drawing[: drawing.index("</svg>") + 6])


def test_the_area_of_a_histogram_is_the_same_for_every_group() -> None:
    groups = [("a", torch.arange(100.0) % 10, 1), ("b", torch.arange(10.0), 2)]
    drawing = svg(histogram("values", "number", groups))
    paths = [path.attrib["d"] for path in drawing.iter("path")]
    areas = []
    for path in paths:
        heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path)]
        areas.append(sum(max(heights) - y for y in heights))
    assert len(areas) == 2
    assert abs(areas[0] - areas[1]) < 1
    assert drawing.attrib["aria-label"] == "values"


def test_one_value_and_negative_values_can_be_drawn() -> None:
    for values in (torch.zeros(4), torch.tensor([-300.0, -200.0, -250.5])):
        drawing = svg(histogram("values", "number", [("a", values, 1)]))
        numbers = [float(x) for x in re.findall(r"-?[\d.]+", next(drawing.iter("path")).attrib["d"])]
        assert all(0 <= number <= 480 for number in numbers)


def test_points_keep_their_proportions() -> None:
    places = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [4.0, 2.0]])
    points = [
        (float(c.attrib["cx"]), float(c.attrib["cy"]))
        for c in svg(scatter("map", [("a", places, 1)])).iter("circle")
    ]
    right, up = points[1][0] - points[0][0], points[0][1] - points[2][1]
    assert right > 0
    assert abs(right - up) < 0.2
    many = svg(scatter("map", [("a", torch.randn(5000, 2), 1)]))
    assert 1000 <= len(list(many.iter("circle"))) <= 1500


def test_bars_hang_from_zero() -> None:
    drawing = svg(layer_bars("layers", (0.5, -0.25), (0.25, 0.0)))
    bars = [(float(bar.attrib["y"]), float(bar.attrib["height"])) for bar in drawing.iter("rect")]
    zero = bars[0][0] + bars[0][1]
    assert abs(bars[0][1] - 2 * bars[1][1]) < 0.3
    assert abs(bars[2][0] - zero) < 0.2  # the negative one begins at zero and goes down
    assert bars[3][1] == 0
    assert all(y + height <= HEIGHT for y, height in bars)


def test_words_are_escaped() -> None:
    for drawing in (
        histogram(HOSTILE, HOSTILE, [(HOSTILE, torch.arange(4.0), 1)]),
        scatter(HOSTILE, [(HOSTILE, torch.randn(4, 2), 1)]),
    ):
        assert "<script" not in drawing
        assert "<img" not in drawing
