"""What a report shows of a result: tables and charts, described; the report's room draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Style = Literal["", "good", "bad", "warn", "wrap", "wrap warn"]


@dataclass(frozen=True)
class Marked:
    """A cell with a style."""

    text: str
    style: Style


Cell = str | int | Marked


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Bars:
    """A value for each name."""

    title: str
    values: Mapping[str, float]
    unit: str


@dataclass(frozen=True)
class Lines:
    """Points (x, y) of each series."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Histograms:
    """Counts between shared edges, one series over the other."""

    title: str
    edges: Sequence[float]
    counts: Mapping[str, Sequence[float]]
    x_label: str
    note: str = ""


@dataclass(frozen=True)
class KeptChannels:
    """Channels kept of each layer: (name, before, kept); `groups` are their scale groups, by which layers are coloured."""

    title: str
    layers: Sequence[tuple[str, int, int]]
    groups: Sequence[str] = ()


@dataclass(frozen=True)
class WeightPoints:
    """Where weights lie, over -1 to 1, and the centroids that they take."""

    title: str
    histogram: Sequence[int]
    points: Sequence[float]
    x_label: str


Chart = Bars | Lines | Histograms | KeptChannels | WeightPoints


@dataclass(frozen=True)
class Section:
    """A part of the report, of one stage. Empty sections are not drawn."""

    title: str
    tables: Sequence[Table] = field(default_factory=list[Table])
    charts: Sequence[Chart] = field(default_factory=list[Chart])
    note: str = ""
