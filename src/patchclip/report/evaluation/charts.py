"""Drawings of the evaluation page as inline SVG; colours come from the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from patchclip.report.figures import Point, ticks

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 16, 14, 42
LETTER = 7.4
"""Mean width of a letter of the charts in their units."""

LARGEST, SMALLEST = 1.6, 0.35
"""Of markers whose area says how much lies behind them, as multiples of an ordinary one's size."""

FEW = 5
"""Below this count a marker is faint."""


@dataclass(frozen=True)
class Series:
    """Values of one model.

    Attributes:
        name: of the model.
        points: in order of x.
        tone: its colour, 1 to 6.
        spread: a standard deviation for each point, or none.
        counts: what lies behind each point, or none: the area of its marker.
    """

    name: str
    points: tuple[Point, ...]
    tone: int
    spread: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


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
    names: str = "ends",
    guide: Sequence[Point] = (),
) -> Markup:
    """Points over two axes, those of a series joined unless names stand beside them.

    Args:
        title: read aloud.
        x, y: the axes.
        series: those to draw, points in order of x.
        names: where they stand: at the "ends" of the lines, "beside" the points, or "apart" (a legend).
        guide: a dashed line through these points.
    """
    fits = [s for s in series if s.points]
    room = max((len(s.name) for s in fits), default=0) * LETTER + 12 if names == "ends" else 0
    frame = _Frame(x, y, WIDTH - RIGHT - min(room, 170))
    parts = [_open(title, WIDTH, HEIGHT), frame.grid()]
    if guide:
        parts.append(Markup('<path class="dashed" d="{}"/>').format(frame.path(guide)))
    most = max((count for s in fits for count in s.counts), default=1)
    parts += [_series(frame, s, names != "beside", most) for s in fits]
    ends = [(s, frame.at(s.points[-1])) for s in fits]
    if names == "ends":
        parts += _apart(ends)
    elif names == "beside":
        parts += [_beside(s, place, frame.right, [other for _, other in ends]) for s, place in ends]
    return Markup("").join([*parts, Markup("</svg>")])


def radar(title: str, axes: Sequence[tuple[str, str]], series: Sequence[Series]) -> Markup:
    """Models over three or more tasks; the rim of each spoke is the best value of its task.

    Args:
        title: read aloud.
        axes: a word and a number for each spoke, one above the other.
        series: points are (spoke, share of the best value in [0, 1]).
    """
    middle, centre, radius = 290.0, 200.0, 142.0

    def at(i: float, share: float) -> tuple[float, float]:
        angle = 2 * math.pi * i / len(axes) - math.pi / 2
        return (
            round(middle + radius * share * math.cos(angle), 1),
            round(centre + radius * share * math.sin(angle), 1),
        )

    parts = [_open(title, 580, 400, "chart radar")]
    for share in (0.25, 0.5, 0.75, 1.0):
        rim = _joined([at(i, share) for i in range(len(axes))])
        parts.append(Markup('<path class="rim" d="{}Z"/>').format(rim))
    for i, (words, number) in enumerate(axes):
        x, y = at(i, 1.0)
        label_x, label_y = at(i, 1.15)
        side = "middle" if abs(label_x - middle) < 30 else "start" if label_x > middle else "end"
        spoke = Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>')
        lines = '<tspan x="{x}">{}</tspan><tspan x="{x}" dy="1.1em">{}</tspan>'
        label = Markup('<text y="{}" text-anchor="{}">' + lines + "</text>")
        first = round(label_y - 4 + 5 * (label_y - centre) / radius, 1)
        parts += [
            spoke.format(middle, centre, x, y),
            label.format(first, side, words, number, x=label_x),
        ]
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


def _series(frame: _Frame, s: Series, lines: bool, most: int) -> Markup:
    """A band, a line and markers; where points have counts, `most` is that of the largest marker."""
    parts = []
    if s.spread:
        upper = [(x, y + d) for (x, y), d in zip(s.points, s.spread, strict=True)]
        lower = [(x, y - d) for (x, y), d in zip(s.points, s.spread, strict=True)]
        band = _joined([frame.at(point) for point in (*upper, *reversed(lower))])
        parts.append(Markup('<path class="band-{}" d="{}Z"/>').format(s.tone, band))
    if lines and len(s.points) > 1:
        line = Markup('<path class="tone-{} dash-{}" d="{}"/>')
        parts.append(line.format(s.tone, s.tone, frame.path(s.points)))
    if not s.counts:
        parts += [_marker(s.tone, frame.at(point)) for point in s.points]
    for point, count in zip(s.points, s.counts, strict=False):
        size = max(SMALLEST, LARGEST * math.sqrt(count / most))
        parts.append(_marker(s.tone, frame.at(point), size, count < FEW))
    return Markup("").join(parts)


def _marker(tone: int, place: Point, size: float = 1.0, faint: bool = False) -> Markup:
    """A dot whose shape goes with its colour, so that neither is needed alone."""
    shapes = ("circle", "square", "triangle", "diamond", "cross", "flat")
    paths = {
        "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
        "square": "M-4 -4h8v8h-8Z",
        "triangle": "M0 -5l5 9h-10Z",
        "diamond": "M0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5Z",
        "cross": "M-4 -4l8 8M4 -4l-8 8",
        "flat": "M-6 -2.5h12v5h-12Z",
    }
    drawing = '<path class="tone-{} dot{}" transform="translate({:g} {:g}) scale({:.3g})" d="{}"/>'
    shape = paths[shapes[(tone - 1) % len(shapes)]]
    return Markup(drawing).format(tone, " faint" if faint else "", *place, size, shape)


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


def _beside(s: Series, place: Point, right: float, points: Sequence[Point]) -> Markup:
    """A name right of its point, or left of it near the edge and where another point lies in its way."""
    x, y = place
    end = x + 9 + len(s.name) * LETTER
    fits = end < right and not any(x < other < end + 6 and abs(y - up) < 12 for other, up in points)
    text = Markup('<text class="name-{}" x="{}" y="{}" text-anchor="{}">{}</text>')
    return text.format(s.tone, x + 9 if fits else x - 9, y + 4, "start" if fits else "end", s.name)
