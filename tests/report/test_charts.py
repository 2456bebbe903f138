"""Charts: the geometry says what the numbers say."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.core.metric import short
from edgec.report import charts

finite = st.floats(-1e9, 1e9, allow_nan=False)


def parse(svg: str) -> ElementTree.Element:
    """The chart as XML; what follows it is the legend."""
    return ElementTree.fromstring(svg[: svg.index("</svg>") + 6])


def all_of(svg: str, tag: str) -> list[dict[str, str]]:
    return [dict(e.attrib) for e in parse(svg).iter(tag)]


@settings(max_examples=200, deadline=None)
@given(finite, st.floats(1e-6, 1e9))
def test_ticks_are_evenly_spaced_inside_the_range(low: float, width: float) -> None:
    high = low + width
    if not high > low or width < 1e-9 * abs(low):
        return
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 7
    slack = 1e-6 * width + 1e-9 * abs(low)
    assert all(low - slack <= t <= high + slack for t in found)
    steps = [b - a for a, b in pairwise(found)]
    assert all(math.isclose(s, steps[0], rel_tol=1e-3, abs_tol=1e-6 * abs(low)) for s in steps)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0"), (0.5, "0.5"), (1234, "1234"), (23_700, "23.7 k"), (-5_918_006, "-5.92 M"), (3.405e9, "3.4 G")],
)
def test_numbers_as_a_person_reads_them(value: float, told: str) -> None:
    assert short(value) == told


def test_lines_rise_where_the_series_rises() -> None:
    svg = charts.lines(
        "t", {"up": [(1, 0.0), (2, 1.0), (3, 3.0)], "flat": [(1, 1.0), (3, 1.0)]}, "epoch", "y"
    )
    up, flat = ([p.split(",") for p in e["points"].split()] for e in all_of(svg, "polyline"))
    heights = [float(y) for _, y in up]
    assert heights == sorted(heights, reverse=True)  # SVG counts downwards
    assert heights[1] - heights[2] == pytest.approx(2 * (heights[0] - heights[1]), abs=0.3)
    assert flat[0][1] == flat[1][1]
    assert "<span>" in svg and "flat" in svg


def test_points_that_are_not_finite_are_left_out() -> None:
    svg = charts.lines("t", {"a": [(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)]}, "x", "y")
    assert len(all_of(svg, "circle")) == 2
    assert not re.search("nan|inf", svg)
    assert charts.lines("t", {"a": [(1, math.nan)]}, "x", "y") == ""
    assert charts.lines("t", {}, "x", "y") == ""


@pytest.mark.parametrize("points", [[(1, 5.0)], [(1, 0.0), (2, 0.0)], [(1, -2.0), (2, -1.0)]])
def test_one_point_zeros_and_negatives_stay_inside(points: list[tuple[float, float]]) -> None:
    for circle in all_of(charts.lines("t", {"a": points}, "x", "y"), "circle"):
        assert 0 <= float(circle["cx"]) <= charts.WIDTH
        assert 0 <= float(circle["cy"]) <= charts.HEIGHT


def test_a_histogram_has_a_bar_for_each_full_bin() -> None:
    svg = charts.histograms("t", [0, 1, 2, 3], {"a": [1, 0, 4], "b": [2, 2, 2]}, "x")
    bars = all_of(svg, "rect")
    assert len(bars) == 5
    assert float(bars[1]["height"]) == pytest.approx(4 * float(bars[0]["height"]), abs=0.5)
    assert charts.histograms("t", [0, 1], {"a": [0]}, "x") == ""


def test_kept_channels_fill_their_outline() -> None:
    layers = [("a<b", 64, 16), ("c", 32, 32)]
    svg = charts.kept_channels("t", layers, ["s8", "s16"])
    outline, fill, second, same = (float(r["height"]) for r in all_of(svg, "rect"))
    assert fill == pytest.approx(outline / 4, abs=0.1)
    assert second == same == pytest.approx(outline / 2, abs=0.1)
    assert "a&lt;b (s8): 16 of 64 channels kept" in svg
    assert charts.kept_channels("t", []) == ""
    assert "a&lt;b: 16 of 64 channels kept" in charts.kept_channels("t", layers)


def test_strips_show_every_run_and_the_median() -> None:
    samples = [10.0 + 0.01 * k for k in range(200)]
    svg = charts.strips("t", {"a": [*samples, 900.0], "b": [5.0]}, "ms")
    assert len(all_of(svg, "circle")) == 202
    right = charts.WIDTH - charts.RIGHT + 0.1
    assert all(float(c["cx"]) <= right for c in all_of(svg, "circle"))  # the outlier is at the edge
    medians = [float(e["x1"]) for e in all_of(svg, "line") if "stroke-width" in e]
    assert medians[1] < medians[0]
    assert charts.strips("t", {"a": []}, "ms") == ""


def test_slow_runs_do_not_squeeze_the_rest() -> None:
    """A busy machine: more than 2 % of a row are far out, so the axis becomes logarithmic."""
    quiet = [10.0 + 0.01 * k for k in range(100)]
    svg = charts.strips("t", {"a": quiet, "b": [8.0] * 90 + [800.0] * 10}, "ms")
    assert "ms, logarithmic" in svg
    centres = [float(c["cx"]) for c in all_of(svg, "circle")]
    left, right = 168, charts.WIDTH - charts.RIGHT
    assert all(left <= x <= right + 0.1 for x in centres)
    assert max(centres[:100]) - left < 0.25 * (right - left)
    ten = next(float(t.attrib["x"]) for t in parse(svg).iter("text") if t.text == "10")
    assert ten == pytest.approx(min(centres[:100]), abs=0.1)
    assert "logarithmic" not in charts.strips("t", {"a": quiet, "b": [50.0]}, "ms")


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(10, 1e5))
def test_ticks_of_a_logarithmic_axis(low: float, spread: float) -> None:
    found = charts.log_ticks(low, low * spread)
    assert 1 <= len(found) <= 9 and found == sorted(found)
    assert all(low <= t <= low * spread for t in found)


def test_bars_are_as_long_as_their_values() -> None:
    svg = charts.bars("t", {"a": 4.0, "b": 1.0, "c": math.nan}, "ms")
    a, b = (float(r["width"]) for r in all_of(svg, "rect"))
    assert a == pytest.approx(4 * b, abs=0.3)
    assert "4 ms" in svg
    assert charts.bars("t", {}, "ms") == ""
    assert parse(charts.bars("t", {"a": 0.0}, "ms")) is not None


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=30))
def test_any_name_leaves_the_chart_well_formed(name: str) -> None:
    drawn = [
        charts.lines(name, {name: [(1, 1.0)]}, name, name),
        charts.histograms(name, [0, 1], {name: [1]}, name),
        charts.kept_channels(name, [(name, 4, 2)], [name]),
        charts.strips(name, {name: [1.0, 2.0]}, name),
        charts.bars(name, {name: 1.0}, name),
    ]
    for svg in drawn:
        assert parse(svg).attrib["aria-label"] == name
        ElementTree.fromstring(f"<div>{svg}</div>")
