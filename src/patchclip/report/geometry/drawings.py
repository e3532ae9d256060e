"""Histograms, maps and bars of the geometry page as inline SVG; colours come from the page."""

from collections.abc import Sequence

from jaxtyping import Float
from markupsafe import Markup
from torch import Tensor

from patchclip.report.figures import ticks

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 20, 16, 12, 42
BINS = 48
MOST_POINTS = 1500

Group = tuple[str, Float[Tensor, "_"], int]
"""Name, values and tone."""


def histogram(title: str, words: str, groups: Sequence[Group]) -> Markup:
    """Shares of each group's values over one axis, drawn over one another, each as high as the page allows.

    Args:
        title: read aloud.
        words: below the axis.
        groups: finite values.
    """
    low = min(float(values.min()) for _, values, _ in groups)
    high = max(float(values.max()) for _, values, _ in groups)
    marks = ticks(low, high, 6)
    ends = (min(low, marks[0]), max(high, marks[-1]))
    counts = [values.double().histc(BINS, *ends) / len(values) for _, values, _ in groups]
    top = max(float(each.max()) for each in counts)
    parts = [_open(title, HEIGHT), _axis(ends, marks, words)]
    for (_, _, tone), shares in zip(groups, counts, strict=True):
        corners = []
        for i, share in enumerate(shares.tolist()):
            height = HEIGHT - BOTTOM - share / top * (HEIGHT - TOP - BOTTOM)
            corners += [(_across(i / BINS), height), (_across((i + 1) / BINS), height)]
        floor = HEIGHT - BOTTOM
        area = [(_across(0), floor), *corners, (_across(1), floor)]
        parts.append(Markup('<path class="area-{} tone-{}" d="{}Z"/>').format(tone, tone, _joined(area)))
    return Markup("").join([*parts, Markup("</svg>"), legend([(name, tone) for name, _, tone in groups])])


def scatter(title: str, groups: Sequence[tuple[str, Float[Tensor, "_ 2"], int]]) -> Markup:
    """Points of several groups on one plane, at one scale in both directions.

    Args:
        title: read aloud.
        groups: name, places and tone of each; at most 1500 points of each are drawn, evenly spaced.
    """
    width, height, edge = WIDTH, 400, 14
    xs = [places[:, 0] for _, places, _ in groups]
    ys = [places[:, 1] for _, places, _ in groups]
    left, right = min(float(x.min()) for x in xs), max(float(x.max()) for x in xs)
    low, high = min(float(y.min()) for y in ys), max(float(y.max()) for y in ys)
    scale = min((width - 2 * edge) / ((right - left) or 1), (height - 2 * edge) / ((high - low) or 1))
    middle = ((left + right) / 2, (low + high) / 2)
    parts = [_open(title, height)]
    for _, places, tone in groups:
        step = -(-len(places) // MOST_POINTS)
        for x, y in places[::step].tolist():
            place = (width / 2 + (x - middle[0]) * scale, height / 2 - (y - middle[1]) * scale)
            parts.append(
                Markup('<circle class="point-{}" cx="{:.1f}" cy="{:.1f}" r="2.6"/>').format(tone, *place)
            )
    return Markup("").join([*parts, Markup("</svg>"), legend([(name, tone) for name, _, tone in groups])])


def layer_bars(title: str, attention: Sequence[float], mlps: Sequence[float]) -> Markup:
    """Two bars a layer, side by side: what attention and what the MLP adds, shares that may be negative."""
    low, high = min(0.0, *attention, *mlps), max(0.0, *attention, *mlps)
    marks = ticks(low, high, 5)
    low, high = min(low, marks[0]), max(high, marks[-1])
    left = 50

    def up(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [_open(title, HEIGHT)]
    for mark in marks:
        line = '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
        text = '<text x="{}" y="{}" text-anchor="end">{}</text>'
        shown = f"{mark * 100:g} %"
        parts.append(
            Markup(line + text).format(left, WIDTH - RIGHT, left - 7, up(mark) + 4, shown, y=up(mark))
        )
    slot = (WIDTH - RIGHT - left) / len(attention)
    every = -(-len(attention) // 12)
    for layer, both in enumerate(zip(attention, mlps, strict=True)):
        for tone, value in enumerate(both, start=1):
            x = round(left + slot * (layer + 0.12 + 0.38 * (tone - 1)), 1)
            y, height = min(up(value), up(0)), abs(up(value) - up(0))
            bar = '<rect class="bar-{}" x="{}" y="{}" width="{:.1f}" height="{:.1f}"/>'
            parts.append(Markup(bar).format(tone, x, y, 0.36 * slot, height))
        if layer % every == 0:
            text = '<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
            parts.append(Markup(text).format(left + slot * (layer + 0.5), HEIGHT - BOTTOM + 17, layer))
    parts.append(_words("layer"))
    return Markup("").join([*parts, Markup("</svg>"), legend([("attention", 1), ("MLP", 2)])])


def legend(groups: Sequence[tuple[str, int]]) -> Markup:
    """Names beside their colours."""
    key = Markup('<span><i class="key key-{}"></i>{}</span>')
    return Markup('<p class="legend">{}</p>').format(
        Markup("").join(key.format(tone, name) for name, tone in groups)
    )


def _open(title: str, height: int) -> Markup:
    opening = '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">'
    return Markup(opening).format(WIDTH, height, title)


def _across(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _axis(ends: tuple[float, float], marks: Sequence[float], words: str) -> Markup:
    low, high = ends
    parts = []
    for mark in marks:
        x = _across((mark - low) / (high - low))
        line = '<line class="grid" x1="{x}" x2="{x}" y1="{}" y2="{}"/>'
        text = '<text x="{x}" y="{}" text-anchor="middle">{:g}</text>'
        parts.append(Markup(line + text).format(TOP, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 17, mark, x=x))
    return Markup("").join([*parts, _words(words)])


def _words(words: str) -> Markup:
    text = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
    return text.format((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, words)


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:.1f}" for x, y in points)
