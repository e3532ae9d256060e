"""Drawings of the evaluation page as inline SVG; colours come from the page, names stand beside the lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from patchclip.report.figures import Point, ticks

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 16, 14, 42
LETTER = 7.4
"""Mean width of a letter of the charts in their units."""


@dataclass(frozen=True)
class Series:
    """Values of one model: `tone` is its colour, 1 to 6; `spread` a standard deviation for each point."""

    name: str
    points: tuple[Point, ...]
    tone: int
    spread: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scale:
    """One axis: its words, the values that need ticks with their labels, and its ends."""

    words: str
    ticks: tuple[tuple[float, str], ...]
    low: float
    high: float


def percent_scale(words: str, values: Sequence[float], floor: float | None = None) -> Scale:
    """An axis of shares that covers the values."""
    low, high = min(values), max(values)
    marks = ticks(low if floor is None else floor, high, 5)
    return Scale(words, tuple((mark, f"{mark * 100:g}") for mark in marks), marks[0], marks[-1])


def plot(
    title: str,
    x: Scale,
    y: Scale,
    series: Sequence[Series],
    *,
    lines: bool = True,
    guide: Sequence[Point] = (),
) -> Markup:
    """Points over two axes, joined or not, each series with its name at its last point.

    Args:
        title: read aloud.
        x, y: the axes.
        series: those to draw, points in order of x.
        lines: whether points are joined.
        guide: a dashed line through these points.
    """
    fits = [s for s in series if s.points]
    room = max((len(s.name) for s in fits), default=0) * LETTER + 12 if lines else 0
    frame = _Frame(x, y, WIDTH - RIGHT - min(room, 170))
    parts = [_open(title, WIDTH, HEIGHT), frame.grid()]
    if guide:
        parts.append(Markup('<path class="dashed" d="{}"/>').format(frame.path(guide)))
    parts += [_series(frame, s, lines) for s in fits]
    ends = [(s, frame.at(s.points[-1])) for s in fits]
    parts += _apart(ends) if lines else [_beside(s, place, frame.right) for s, place in ends]
    return Markup("").join([*parts, Markup("</svg>")])


def radar(title: str, axes: Sequence[str], series: Sequence[Series]) -> Markup:
    """Models over three or more tasks; the rim of each spoke is the best value of its task.

    Args:
        title: read aloud.
        axes: a word for each spoke.
        series: points are (spoke, share of the best value in [0, 1]).
    """
    middle, centre, radius = 250.0, 196.0, 142.0

    def at(i: float, share: float) -> tuple[float, float]:
        angle = 2 * math.pi * i / len(axes) - math.pi / 2
        return (
            round(middle + radius * share * math.cos(angle), 1),
            round(centre + radius * share * math.sin(angle), 1),
        )

    parts = [_open(title, 500, 390, "chart radar")]
    for share in (0.25, 0.5, 0.75, 1.0):
        rim = _joined([at(i, share) for i in range(len(axes))])
        parts.append(Markup('<path class="rim" d="{}Z"/>').format(rim))
    for i, words in enumerate(axes):
        x, y = at(i, 1.0)
        label_x, label_y = at(i, 1.12)
        side = "middle" if abs(label_x - middle) < 30 else "start" if label_x > middle else "end"
        spoke = Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>')
        label = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
        parts += [spoke.format(middle, centre, x, y), label.format(label_x, label_y + 4, side, words)]
    for s in series:
        corners = [at(i, share) for i, share in s.points]
        drawing = '<path class="tone-{} dash-{}" d="{}Z"/>'
        parts.append(Markup(drawing).format(s.tone, s.tone, _joined(corners)))
        parts += [_marker(s.tone, place) for place in corners]
    return Markup("").join([*parts, Markup("</svg>")])


@dataclass(frozen=True)
class _Frame:
    """Maps data to the drawing."""

    x_scale: Scale
    y_scale: Scale
    right: float

    def at(self, point: Point) -> Point:
        across = (point[0] - self.x_scale.low) / ((self.x_scale.high - self.x_scale.low) or 1)
        up = (point[1] - self.y_scale.low) / ((self.y_scale.high - self.y_scale.low) or 1)
        return (
            round(LEFT + across * (self.right - LEFT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    def path(self, points: Sequence[Point]) -> str:
        return _joined([self.at(point) for point in points])

    def grid(self) -> Markup:
        parts = []
        for value, label in self.y_scale.ticks:
            y = self.at((self.x_scale.low, value))[1]
            parts.append(
                Markup(
                    '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
                    '<text x="{}" y="{}" text-anchor="end">{}</text>'
                ).format(LEFT, self.right, LEFT - 7, y + 4, label, y=y)
            )
        for value, label in self.x_scale.ticks:
            x = self.at((value, self.y_scale.low))[0]
            text = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
            parts.append(text.format(x, HEIGHT - BOTTOM + 17, label))
        across, down = (LEFT + self.right) / 2, (TOP + HEIGHT - BOTTOM) / 2
        words = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
        parts.append(words.format(across, HEIGHT - 6, self.x_scale.words))
        words = Markup('<text transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>')
        parts.append(words.format(down, self.y_scale.words))
        return Markup("").join(parts)


def _open(title: str, width: int, height: int, kind: str = "chart") -> Markup:
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        kind, width, height, title
    )


def _joined(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _series(frame: _Frame, s: Series, lines: bool) -> Markup:
    parts = []
    if s.spread:
        upper = [(x, y + d) for (x, y), d in zip(s.points, s.spread, strict=True)]
        lower = [(x, y - d) for (x, y), d in zip(s.points, s.spread, strict=True)]
        band = _joined([frame.at(point) for point in (*upper, *reversed(lower))])
        parts.append(Markup('<path class="band-{}" d="{}Z"/>').format(s.tone, band))
    if lines and len(s.points) > 1:
        line = Markup('<path class="tone-{} dash-{}" d="{}"/>')
        parts.append(line.format(s.tone, s.tone, frame.path(s.points)))
    parts += [_marker(s.tone, frame.at(point)) for point in s.points]
    return Markup("").join(parts)


def _marker(tone: int, place: Point) -> Markup:
    """A dot whose shape goes with its colour, so that neither is needed alone."""
    x, y = place
    shapes = ("circle", "square", "triangle", "diamond", "cross", "flat")
    paths = {
        "square": f"M{x - 4:g} {y - 4:g}h8v8h-8Z",
        "triangle": f"M{x:g} {y - 5:g}l5 9h-10Z",
        "diamond": f"M{x:g} {y - 5.5:g}l5.5 5.5l-5.5 5.5l-5.5 -5.5Z",
        "cross": f"M{x - 4:g} {y - 4:g}l8 8M{x + 4:g} {y - 4:g}l-8 8",
        "flat": f"M{x - 6:g} {y - 2.5:g}h12v5h-12Z",
    }
    shape = shapes[(tone - 1) % len(shapes)]
    if shape == "circle":
        return Markup('<circle class="tone-{} dot" cx="{}" cy="{}" r="4"/>').format(tone, x, y)
    return Markup('<path class="tone-{} dot" d="{}"/>').format(tone, paths[shape])


def _apart(ends: Sequence[tuple[Series, Point]]) -> list[Markup]:
    """Names at the ends of their lines, pushed apart where they would lie on one another."""
    ends = sorted(ends, key=lambda end: end[1][1])
    heights: list[float] = []
    for _, (_, y) in ends:
        heights.append(max(y, heights[-1] + 16) if heights else y)
    lowest = HEIGHT - BOTTOM - 4.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], lowest)
        lowest = heights[i] - 16
    text = Markup('<text class="name-{}" x="{}" y="{}">{}</text>')
    return [
        text.format(s.tone, x + 9, round(height + 4, 1), s.name)
        for (s, (x, _)), height in zip(ends, heights, strict=True)
    ]


def _beside(s: Series, place: Point, right: float) -> Markup:
    """A name right of its point, or left of it near the edge."""
    x, y = place
    fits = x + 9 + len(s.name) * LETTER < right
    text = Markup('<text class="name-{}" x="{}" y="{}" text-anchor="{}">{}</text>')
    return text.format(s.tone, x + 9 if fits else x - 9, y + 4, "start" if fits else "end", s.name)
