"""Charts and sections that stages describe, drawn for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from edgec.core.results.table import (
    Bars,
    Chart,
    Histograms,
    KeptChannels,
    Lines,
    Section,
    Table,
    WeightPoints,
)
from edgec.report import charts


@dataclass(frozen=True)
class Drawn:
    """A chart as inline SVG."""

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True)
class DrawnSection:
    """A part of the page, of all stages that have one of this title."""

    title: str
    tables: list[Table] = field(default_factory=list[Table])
    charts: list[Drawn] = field(default_factory=list[Drawn])
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class StageSection:
    """What a stage has to show, with the stage's name."""

    stage: str
    section: Section


def draw(chart: Chart) -> Drawn:
    """A described chart; its `svg` is empty where it has nothing to show."""
    note = ""
    match chart:
        case Bars():
            svg = charts.bars(chart.title, chart.values, chart.unit)
        case Lines():
            svg = charts.lines(chart.title, chart.series, chart.x_label, chart.y_label)
        case Histograms():
            svg = charts.histograms(chart.title, chart.edges, chart.counts, chart.x_label)
            note = chart.note
        case KeptChannels():
            svg = charts.kept_channels(chart.title, chart.layers, chart.groups)
        case WeightPoints():
            svg = charts.points(chart.title, chart.histogram, chart.points, chart.x_label)
        case _:
            assert_never(chart)
    return Drawn(chart.title, svg, note)


def drawn(sections: Sequence[StageSection]) -> list[DrawnSection]:
    """Sections of one title joined, in the order of their first; what is empty is left out."""
    joined: dict[str, DrawnSection] = {}
    for stage, section in ((s.stage, s.section) for s in sections):
        tables = [replace(table, title=f"{stage}: {table.title}") for table in section.tables if table.rows]
        named = [replace(chart, title=f"{stage}: {chart.title}") for chart in section.charts]
        pictures = [chart for chart in map(draw, named) if chart.svg]
        if not tables and not pictures:
            continue
        part = joined.setdefault(section.title, DrawnSection(section.title))
        part.tables.extend(tables)
        part.charts.extend(pictures)
        if section.note and section.note not in part.notes:
            part.notes.append(section.note)
    return list(joined.values())
