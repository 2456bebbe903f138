"""Charts as inline SVG: no script, no font, no file from outside. Colours are CSS variables of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from edgec.core.metric import short

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34


def colour(index: int) -> str:
    return f"var(--c{index % 8})"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span a range."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten in a positive range; only the ones where there would be many."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    leading = (1, 2, 5) if len(powers) <= 3 else (1,)
    return [k * 10.0**p for p in powers for k in leading if low <= k * 10.0**p <= high]


class Plot:
    """A rectangle with axes; drawing goes through its scales."""

    def __init__(
        self, title: str, x: tuple[float, float], y: tuple[float, float], height: int = HEIGHT
    ) -> None:
        self.title, self.height = title, height
        self.x0, self.x1 = x if x[1] > x[0] else (x[0], x[0] + 1)
        self.y0, self.y1 = y if y[1] > y[0] else (y[0], y[0] + 1)
        self.parts: list[str] = []

    def px(self, x: float) -> float:
        return LEFT + (x - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def py(self, y: float) -> float:
        return self.height - BOTTOM - (y - self.y0) / (self.y1 - self.y0) * (self.height - TOP - BOTTOM)

    def axes(self, x_label: str, y_label: str) -> None:
        for value in ticks(self.y0, self.y1, 4):
            y = self.py(value)
            self.parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            self.parts.append(
                f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>'
            )
        for value in ticks(self.x0, self.x1, 6):
            self.parts.append(
                f'<text class="tick" x="{self.px(value):.1f}" y="{self.height - BOTTOM + 15}" '
                f'text-anchor="middle">{short(value)}</text>'
            )
        self.parts.append(
            f'<text class="label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{self.height - 4}" '
            f'text-anchor="middle">{escape(x_label)}</text>'
        )
        self.parts.append(f'<text class="label" x="4" y="{TOP - 2}">{escape(y_label)}</text>')

    def svg(self) -> str:
        body = "".join(self.parts)
        return (
            f'<svg viewBox="0 -6 {WIDTH} {self.height + 6}" role="img" aria-label="{escape(self.title)}">'
            f"<title>{escape(self.title)}</title>{body}</svg>"
        )


def legend(names: Sequence[str]) -> str:
    items = "".join(
        f'<span><i style="background:{colour(i)}"></i>{escape(name)}</span>' for i, name in enumerate(names)
    )
    return f'<div class="legend">{items}</div>'


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Line chart; each series is (x, y) points."""
    series = {n: [(x, y) for x, y in p if math.isfinite(y)] for n, p in series.items()}
    points = [p for each in series.values() for p in each]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    plot = Plot(title, (min(xs), max(xs)), (min(0.0, *ys), max(ys) * 1.05))
    plot.axes(x_label, y_label)
    for index, each in enumerate(series.values()):
        path = " ".join(f"{plot.px(x):.1f},{plot.py(y):.1f}" for x, y in each)
        plot.parts.append(
            f'<polyline fill="none" stroke="{colour(index)}" stroke-width="2" points="{path}"/>'
        )
        if len(each) < 30:
            plot.parts += [
                f'<circle cx="{plot.px(x):.1f}" cy="{plot.py(y):.1f}" r="2.6" fill="{colour(index)}"/>'
                for x, y in each
            ]
    return plot.svg() + legend(list(series))


def scatter(
    title: str, at: Mapping[str, tuple[float, float]], front: Sequence[str], x_label: str, y_label: str
) -> str:
    """Named points (x, y); those of the front are joined and filled."""
    if not at:
        return ""
    xs, ys = [x for x, _ in at.values()], [y for _, y in at.values()]
    room = (max(ys) - min(ys)) * 0.12 or abs(max(ys)) * 0.01 or 1.0
    plot = Plot(title, (0.0, max(xs) * 1.1), (min(ys) - room, max(ys) + room))
    plot.axes(x_label, y_label)
    path = " ".join(f"{plot.px(at[n][0]):.1f},{plot.py(at[n][1]):.1f}" for n in front)
    plot.parts.append(f'<polyline fill="none" stroke="var(--dim)" stroke-dasharray="4 3" points="{path}"/>')
    for index, (name, (x, y)) in enumerate(at.items()):
        fill = colour(index) if name in front else "none"
        plot.parts.append(
            f'<circle cx="{plot.px(x):.1f}" cy="{plot.py(y):.1f}" r="5" fill="{fill}" stroke="{colour(index)}" '
            f'stroke-width="2"><title>{escape(name)}: {short(x)}, {short(y)}</title></circle>'
        )
    return plot.svg() + legend(list(at))


def histograms(
    title: str, edges: Sequence[float], counts: Mapping[str, Sequence[float]], x_label: str
) -> str:
    """Histograms over common bins, drawn over each other."""
    highest = max((max(c) for c in counts.values() if len(c)), default=0)
    if highest <= 0:
        return ""
    plot = Plot(title, (edges[0], edges[-1]), (0, highest * 1.05))
    plot.axes(x_label, "channels")
    for index, each in enumerate(counts.values()):
        _columns(plot, edges, each, colour(index))
    return plot.svg() + legend(list(counts))


def _columns(plot: Plot, edges: Sequence[float], counts: Sequence[float], fill: str) -> None:
    """The columns of one histogram; none where nothing was counted."""
    for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True):
        if c:
            y = plot.py(c)
            plot.parts.append(
                f'<rect x="{plot.px(a):.1f}" y="{y:.1f}" width="{max(plot.px(b) - plot.px(a) - 0.6, 0.6):.1f}" '
                f'height="{plot.py(0) - y:.1f}" fill="{fill}" fill-opacity="0.55"/>'
            )


def points(title: str, counts: Sequence[float], at: Sequence[float], x_label: str) -> str:
    """A histogram over -1..1 with a line at each centroid of a codebook."""
    highest = max(counts, default=0)
    if highest <= 0:
        return ""
    plot = Plot(title, (-1, 1), (0, highest * 1.05))
    plot.axes(x_label, "weights")
    edges = [-1 + 2 * k / len(counts) for k in range(len(counts) + 1)]
    _columns(plot, edges, counts, colour(0))
    for point in at:
        x = plot.px(point)
        plot.parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{plot.py(0):.1f}" y2="{plot.py(highest):.1f}" stroke="{colour(1)}" '
            'stroke-width="1.2"/>'
        )
    return plot.svg() + legend(["weights", "centroids"])


def kept_channels(title: str, layers: Sequence[tuple[str, int, int]], groups: Sequence[str] = ()) -> str:
    """A column for each layer (name, channels before, kept): before as an outline, kept as a filled bar, coloured by the
    layer's group where `groups` names one for each.
    """
    if not layers:
        return ""
    group_of = list(groups) or [""] * len(layers)
    named = list(dict.fromkeys(group_of))
    most = max(before for _, before, _ in layers)
    plot = Plot(title, (0, len(layers)), (0, most * 1.05), 240)
    plot.axes("layers in the order of execution", "channels")
    step = plot.px(1) - plot.px(0)
    for index, ((name, before, kept), group) in enumerate(zip(layers, group_of, strict=True)):
        shade = colour(named.index(group))
        x = plot.px(index) + 0.1 * step
        label = f"{name} ({group})" if group else name
        plot.parts.append(f"<g><title>{escape(f'{label}: {kept} of {before} channels kept')}</title>")
        for value, style in (
            (before, f'fill="none" stroke="{shade}" stroke-opacity="0.6"'),
            (kept, f'fill="{shade}"'),
        ):
            y = plot.py(value)
            plot.parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{0.8 * step:.1f}" height="{plot.py(0) - y:.1f}" {style}/>'
            )
        plot.parts.append("</g>")
    return plot.svg() + (legend(named) if groups else "")


def strips(title: str, samples: Mapping[str, Sequence[float]], x_label: str) -> str:
    """A row for each series: every sample a dot, the middle half a box, the median a line.

    A row's slowest 2 % may lie beyond the right edge, where they are drawn. The axis starts at 0; where what is left
    spans more than 10 x it is logarithmic, so that a few slow runs don't squeeze the rest.
    """
    samples = {n: sorted(s) for n, s in samples.items() if len(s)}
    if not samples:
        return ""
    low = min(s[0] for s in samples.values())
    high = max(s[int(0.98 * (len(s) - 1))] for s in samples.values())
    log = 0 < 10 * low < high
    x_label += ", logarithmic" if log else ""
    x0, x1 = (math.log(0.9 * low), math.log(1.1 * high)) if log else (0.0, 1.08 * high)
    row, label = 26, 168
    height = TOP + row * len(samples) + BOTTOM
    plot = Plot(title, (x0, x1), (0, 1), height)

    def at(x: float) -> float:
        share = ((math.log(x) if log else x) - plot.x0) / (plot.x1 - plot.x0)
        return label + min(share, 1.0) * (WIDTH - label - RIGHT)

    for value in log_ticks(0.9 * low, 1.1 * high) if log else ticks(plot.x0, plot.x1, 5):
        plot.parts.append(
            f'<line class="grid" x1="{at(value):.1f}" x2="{at(value):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
            f'<text class="tick" x="{at(value):.1f}" y="{height - BOTTOM + 15}" text-anchor="middle">{short(value)}</text>'
        )
    for index, (name, values) in enumerate(samples.items()):
        y = TOP + row * (index + 0.5)
        q1, q2, q3 = (values[int(q * (len(values) - 1))] for q in (0.25, 0.5, 0.75))
        shade = colour(index)
        plot.parts.append(
            f'<text class="tick" x="{label - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        plot.parts += [
            f'<circle cx="{at(v):.1f}" cy="{y + (k % 7 - 3) * 1.6:.1f}" r="1.5" fill="{shade}" fill-opacity="0.35"/>'
            for k, v in enumerate(values)
        ]
        plot.parts.append(
            f'<rect x="{at(q1):.1f}" y="{y - 8:.1f}" width="{max(at(q3) - at(q1), 1):.1f}" height="16" '
            f'fill="{shade}" fill-opacity="0.3"/>'
            f'<line x1="{at(q2):.1f}" x2="{at(q2):.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}" stroke="{shade}" stroke-width="2.5"/>'
        )
    plot.parts.append(
        f'<text class="label" x="{WIDTH / 2}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return plot.svg()


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """Horizontal bars with their values."""
    values = {n: v for n, v in values.items() if math.isfinite(v)}
    if not values:
        return ""
    row, label = 20, 220
    height = TOP + row * len(values) + 8
    most = max(values.values()) or 1.0
    plot = Plot(title, (0, most), (0, 1), height)
    for index, (name, value) in enumerate(values.items()):
        y = TOP + row * index
        width = value / most * (WIDTH - label - 86)
        plot.parts.append(
            f'<text class="tick" x="{label - 6}" y="{y + 13}" text-anchor="end">{escape(name[:38])}</text>'
            f'<rect x="{label}" y="{y + 3}" width="{max(width, 0.5):.1f}" height="13" fill="{colour(0)}"/>'
            f'<text class="tick" x="{label + width + 5:.1f}" y="{y + 13}">{short(value)} {escape(unit)}</text>'
        )
    return plot.svg()
