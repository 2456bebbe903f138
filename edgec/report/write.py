"""The three files of a report: report.json (the figures), report.html and report.md (the same, for people)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2

from edgec.core.files import write_atomic
from edgec.core.results.table import Cell, Marked, Table
from edgec.report.drawn import DrawnSection, StageSection, drawn
from edgec.report.latency import DeviceSection, device_sections
from edgec.report.model import Report
from edgec.report.tables import (
    Tile,
    artifacts_table,
    gates_table,
    inout_table,
    scale_groups,
    stages_table,
    tiles,
    ways_table,
)


@dataclass(frozen=True)
class Image:
    """A picture, in the page alone."""

    caption: str
    mime: str
    base64: str


@dataclass(frozen=True)
class View:
    """Everything that the page shows; a part that was not run has empty tables."""

    report: Report
    tiles: Sequence[Tile]
    gates: Table
    inout: Table
    stages: Table
    artifacts: Table
    ways: Table
    devices: Sequence[DeviceSection]
    sections: Sequence[DrawnSection]  # of the stages
    pictures: Sequence[Image]


def write(folder: Path, report: Report, sections: Sequence[StageSection], pictures: Sequence[Image]) -> None:
    """Write the three files into a folder. `sections` are what the stages have to show."""
    text = json.dumps(report.model_dump(mode="json"), indent=1, allow_nan=False)
    write_atomic(folder / "report.json", text.encode())
    shown = view(report, sections, pictures)
    write_atomic(folder / "report.html", rendered("page.html", report.recipe, shown).encode())
    write_atomic(folder / "report.md", markdown(shown).encode())


def view(report: Report, sections: Sequence[StageSection], pictures: Sequence[Image]) -> View:
    return View(
        report=report,
        tiles=tiles(report),
        gates=gates_table(report),
        inout=inout_table(report),
        stages=stages_table(report),
        artifacts=artifacts_table(report),
        ways=ways_table(report),
        devices=device_sections(report, scale_groups(report)),
        sections=drawn(sections),
        pictures=pictures,
    )


def rendered(template: str, title: str, d: object) -> str:
    """A page of this package, with its data."""
    loader = jinja2.FunctionLoader(lambda name: (resources.files("edgec.report") / name).read_text("utf-8"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, loader=loader)
    return environment.get_template(template).render(title=title, d=d)


def markdown(shown: View) -> str:
    """The tables of the page as Markdown."""
    report = shown.report
    lines = [f"# {report.recipe}", "", f"{report.task}, {report.date}, {report.seconds:.0f} s", ""]
    if report.gates:
        lines += ["**every gate kept**" if report.kept else "**a gate is broken**", ""]
    for table in (shown.gates, shown.inout, shown.stages, shown.artifacts):
        lines += _table(table, table.title)
    for device in shown.devices:
        lines += _table(device.latency, f"Latency on {device.device}")
        lines += _table(device.runtimes, device.runtimes.title)
        lines += _table(device.refused, device.refused.title)
    for section in shown.sections:
        for table in section.tables:
            lines += _table(table, table.title or section.title)
    lines += _table(shown.ways, shown.ways.title)
    if report.notes:
        lines += ["## Notes", ""] + [f"- {note.message}" for note in report.notes] + [""]
    lines += ["## To reproduce", "", "    " + report.command, ""]
    return "\n".join(lines)


def _table(table: Table, title: str) -> list[str]:
    """Lines; none without rows."""
    if not table.rows:
        return []
    head = [_row(table.columns), _row(["---"] * len(table.columns))]
    return [f"## {title}", "", *head, *(_row(row) for row in table.rows), ""]


def _row(cells: Sequence[Cell]) -> str:
    texts = [cell.text if isinstance(cell, Marked) else str(cell) for cell in cells]
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"
