"""Several runs side by side: accuracy, size and latency of what each exported, and which of them nothing else beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue, ValidationError

from edgec.core.errors import Problem, RecipeError
from edgec.core.files import write_atomic
from edgec.core.metric import Metric
from edgec.core.results.profile import Latency, Speedup
from edgec.core.results.table import Cell, Marked, Table
from edgec.report import charts
from edgec.report.figures import ratio_text
from edgec.report.model import Report
from edgec.report.write import rendered

COLUMNS = (
    "run",
    "artifact",
    "",
    "against dense",
    "bytes",
    "median ms",
    "95 % interval",
    "speed-up",
    "gates",
    "front",
)


@dataclass(frozen=True)
class Entry:
    """One artifact of one run: its accuracy and that of the run's dense network, and its latency in onnxruntime, 1 thread."""

    run: str
    artifact: str
    metric: float | None
    dense: float | None
    bytes: int | None
    cell: Latency | None
    speedup: Speedup | None
    kept: bool

    @property
    def name(self) -> str:
        return f"{self.run}/{self.artifact}"


@dataclass(frozen=True)
class Comparison:
    """The figures of several runs. `front`: names of entries that nothing beats in accuracy and latency."""

    task: str
    split: str
    date: str
    entries: Sequence[Entry]
    front: Sequence[str]
    warnings: Sequence[str]
    artifacts: Table
    runs: Table

    def to_json(self) -> dict[str, JsonValue]:
        """What `edgec compare --json` prints; a cell with a style is {"text", "style"}."""
        return {
            "task": self.task,
            "split": self.split,
            "date": self.date,
            "columns": list(self.artifacts.columns),
            "rows": _json(self.artifacts),
            "front": list(self.front),
            "warnings": list(self.warnings),
            "run_columns": list(self.runs.columns),
            "run_rows": _json(self.runs),
        }


def _json(table: Table) -> list[JsonValue]:
    return [
        [{"text": c.text, "style": c.style} if isinstance(c, Marked) else c for c in row]
        for row in table.rows
    ]


@dataclass(frozen=True)
class ComparisonPage:
    comparison: Comparison
    chart: str  # SVG
    chart_title: str


def compare(runs: Sequence[str | Path], output: str | Path | None = None) -> Comparison:
    """The figures of finished runs side by side, from their report.json; with `output` also as a page.

    Raises RecipeError for folders without a report, and for runs whose accuracies are not comparable, all at once.
    """
    reports = _read([Path(run) for run in runs])
    first = next(iter(reports.values()))
    metric = first.headline
    entries = [entry for name, report in reports.items() for entry in _entries(name, report)]
    best = front(entries)
    comparison = Comparison(
        task=first.task,
        split=first.split,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        entries=entries,
        front=best,
        warnings=warnings(reports),
        artifacts=Table(
            "Artifacts", [column or metric.label for column in COLUMNS], [_row(entry, metric, best) for entry in entries]
        ),
        runs=Table("Runs", ["run", "date", "CPU", "machine", "seed", "command"], [_run(n, r) for n, r in reports.items()]),
    )  # fmt: skip
    if output is not None:
        at = {e.name: (e.cell.median_ms, e.metric) for e in entries if e.cell and e.metric is not None}
        title = f"{metric.label} against latency"
        chart = charts.scatter(title, at, best, "median ms, 1 thread", metric.label)
        page = rendered("compare.html", "comparison", ComparisonPage(comparison, chart, title))
        write_atomic(Path(output), page.encode())
    return comparison


def _read(folders: Sequence[Path]) -> dict[str, Report]:
    """The reports by run name; names that two runs share are whole paths."""
    reports: dict[str, Report] = {}
    problems: list[Problem] = []
    names = [folder.name for folder in folders]
    for folder in dict.fromkeys(folders):
        try:
            report = Report.model_validate_json((folder / "report.json").read_bytes())
        except (OSError, ValidationError) as error:
            reason = f"has no report that can be read ({_why(error)})"
            problems.append(Problem(str(folder), reason, "give the folder of a finished run"))
            continue
        if reports and (wanted := _measures(next(iter(reports.values())))) != _measures(report):
            reason = f"measures {_measures(report)}, not {wanted}"
            problems.append(Problem(str(folder), reason, "compare runs of one task"))
        reports[folder.name if names.count(folder.name) == 1 else str(folder)] = report
    if problems or not reports:
        raise RecipeError(problems or [Problem("RUN", "none was given", "give folders of finished runs")])
    return reports


def _why(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _measures(report: Report) -> str:
    """What two runs must have in common."""
    return f"{report.task}, {report.metric}, {report.split}"


def warnings(reports: Mapping[str, Report]) -> list[str]:
    """Why figures of these runs may not be comparable."""
    messages: list[str] = []
    if len({r.data for r in reports.values()}) > 1:
        messages.append("The runs were measured on different data: their accuracies are not comparable.")
    if len({str(r.environment.get("cpu")) for r in reports.values()}) > 1:
        messages.append("The runs were measured on different CPUs: compare speed-ups, not milliseconds.")
    busy = [
        name for name, r in reports.items() if r.profile is not None and r.profile.first.verdict != "quiet"
    ]
    if busy:
        messages.append(
            f"The machine was not quiet while {', '.join(busy)} was measured: compare speed-ups, not milliseconds."
        )
    if len(reports) > 1 and not messages:
        messages.append(
            "Latencies come from separate runs; `edgec profile` measures artifacts in turns, in one run."
        )
    return messages


def _entries(name: str, report: Report) -> list[Entry]:
    profile, headline = report.profile, report.headline.name
    entries: list[Entry] = []
    for artifact, exported in report.artifacts.items():
        accuracy = exported.on(report.split)
        entries.append(
            Entry(
                run=name,
                artifact=artifact.name,
                metric=accuracy.get(headline) if accuracy is not None else None,
                dense=report.dense.metric,
                bytes=exported.bytes,
                cell=profile.first.latency_of(artifact) if profile is not None else None,
                speedup=profile.first.speedup_of(artifact) if profile is not None else None,
                kept=report.kept,
            )
        )
    return entries


def front(entries: Sequence[Entry]) -> list[str]:
    """The names of entries that no other beats in both accuracy and latency, fastest first."""
    measured = [(e.cell.median_ms, e.metric, e.name) for e in entries if e.cell and e.metric is not None]
    best: list[str] = []
    reached = float("-inf")
    for _, metric, name in sorted(measured, key=lambda each: (each[0], -each[1])):
        if metric > reached:
            best.append(name)
            reached = metric
    return best


def _row(entry: Entry, metric: Metric, best: Sequence[str]) -> list[Cell]:
    cell, dense, reached = entry.cell, entry.dense, entry.metric
    return [
        entry.run,
        entry.artifact,
        metric.text(reached),
        metric.change(dense, reached) if dense is not None and reached is not None else "",
        f"{entry.bytes:,}" if entry.bytes else "",
        f"{cell.median_ms:.2f}" if cell else "",
        f"{cell.ci_low_ms:.2f} to {cell.ci_high_ms:.2f}" if cell else "",
        ratio_text(entry.speedup),
        "kept" if entry.kept else Marked("broken", "bad"),
        "yes" if entry.name in best else "",
    ]


def _run(name: str, report: Report) -> list[Cell]:
    verdict = report.profile.first.verdict if report.profile is not None else "not measured"
    return [name, report.date, str(report.environment.get("cpu", "")), verdict, report.seed, report.command]
