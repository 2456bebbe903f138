"""Several runs side by side: accuracy, size and latency of what each exported, and which of them nothing else beats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgec.core.errors import Problem, RecipeError
from edgec.core.files import write_atomic
from edgec.report import charts
from edgec.report.figures import Data, change, ratio_text, titled, told
from edgec.report.latency import one_thread
from edgec.report.write import rendered

COLUMNS = [
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
]


@dataclass(frozen=True)
class Entry:
    """One artifact of one run."""

    run: str
    artifact: str
    metric: float | None
    dense: float | None
    bytes: int | None
    cell: Data | None  # latency in onnxruntime, 1 thread
    speedup: Data | None
    kept: bool

    @property
    def name(self) -> str:
        return f"{self.run}/{self.artifact}"


def compare(runs: Sequence[str | Path], output: str | Path | None = None) -> dict[str, Any]:
    """The figures of finished runs side by side, from their report.json; with `output` also as a page.

    Gives "columns" and "rows", "front" (names that nothing beats in accuracy and latency), "warnings". Raises RecipeError
    for folders without a report, and for runs whose accuracies are not comparable, all at once.
    """
    reports = _read([Path(run) for run in runs])
    first = next(iter(reports.values()))
    metric = first["metrics"][0]
    entries = [entry for name, report in reports.items() for entry in _entries(name, report)]
    best = front(entries)
    columns = [column or titled(metric) for column in COLUMNS]
    data: dict[str, Any] = {
        "task": first["task"],
        "split": first["split"],
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "columns": columns,
        "rows": [_row(entry, metric, best) for entry in entries],
        "front": best,
        "warnings": warnings(reports),
        "run_columns": ["run", "date", "CPU", "machine", "seed", "command"],
        "run_rows": [
            [name, r["date"], r["environment"].get("cpu", ""), (r["profile"] or {}).get("verdict", "not measured"), r["seed"],
             r["command"]]
            for name, r in reports.items()
        ],
    }  # fmt: skip
    if output is not None:
        at = {
            e.name: (float(e.cell["median_ms"]), e.metric) for e in entries if e.cell and e.metric is not None
        }
        title = f"{titled(metric)} against latency"
        chart = charts.scatter(title, at, best, "median ms, 1 thread", titled(metric))
        page = rendered("compare.html", "comparison", {**data, "chart": chart, "chart_title": title})
        write_atomic(Path(output), page.encode())
    return data


def _read(folders: Sequence[Path]) -> dict[str, Data]:
    """The reports by run name; names that two runs share are whole paths."""
    reports: dict[str, Data] = {}
    problems: list[Problem] = []
    names = [folder.name for folder in folders]
    for folder in dict.fromkeys(folders):
        try:
            report: Data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            key = (report["task"], report["metric"], report["split"], report["data"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"has no report that can be read ({type(error).__name__})"
            problems.append(Problem(str(folder), reason, "give the folder of a finished run"))
            continue
        if reports:
            other = next(iter(reports.values()))
            if key[:3] != (other["task"], other["metric"], other["split"]):
                told_key = ", ".join(map(str, key[:3]))
                wanted = ", ".join(str(other[k]) for k in ("task", "metric", "split"))
                problems.append(
                    Problem(str(folder), f"measures {told_key}, not {wanted}", "compare runs of one task")
                )
        reports[folder.name if names.count(folder.name) == 1 else str(folder)] = report
    if problems or not reports:
        raise RecipeError(problems or [Problem("RUN", "none was given", "give folders of finished runs")])
    return reports


def warnings(reports: Mapping[str, Data]) -> list[str]:
    """Why figures of these runs may not be comparable."""
    found: list[str] = []
    if len({r["data"] for r in reports.values()}) > 1:
        found.append("The runs were measured on different data: their accuracies are not comparable.")
    if len({r["environment"].get("cpu") for r in reports.values()}) > 1:
        found.append("The runs were measured on different CPUs: compare speed-ups, not milliseconds.")
    busy = [name for name, r in reports.items() if (r["profile"] or {}).get("verdict", "quiet") != "quiet"]
    if busy:
        found.append(
            f"The machine was not quiet while {', '.join(busy)} was measured: compare speed-ups, not milliseconds."
        )
    if len(reports) > 1 and not found:
        found.append(
            "Latencies come from separate runs; `edgec profile` measures artifacts in turns, in one run."
        )
    return found


def _entries(name: str, report: Data) -> list[Entry]:
    profile: Data = report["profile"] or {}
    to_dense = [s for s in profile.get("speedups", []) if s["against"] == "dense.fp32"]
    split, metric = report["split"], report["metric"]
    found: list[Entry] = []
    for artifact, told_of in report["artifacts"].items():
        cell = one_thread(profile.get("cells", []), artifact)
        ratio = one_thread(to_dense, artifact)
        value = (told_of.get(split) or {}).get(metric)
        dense = report["dense"].get("metric")
        found.append(
            Entry(name, artifact, value, dense, told_of.get("bytes"), cell, ratio, bool(report["kept"]))
        )
    return found


def front(entries: Sequence[Entry]) -> list[str]:
    """The names of entries that no other beats in both accuracy and latency, fastest first."""
    there = [e for e in entries if e.metric is not None and e.cell is not None]
    there.sort(key=lambda e: (e.cell["median_ms"], -e.metric))  # type: ignore[index, operator]
    best: list[Entry] = []
    for entry in there:
        if not best or entry.metric > best[-1].metric:  # type: ignore[operator]
            best.append(entry)
    return [entry.name for entry in best]


def _row(entry: Entry, metric: Data, best: Sequence[str]) -> list[Any]:
    cell, ratio = entry.cell, entry.speedup
    both = entry.metric is not None and entry.dense is not None
    by = change(metric, entry.dense or 0.0, entry.metric or 0.0) if both else ""
    return [
        entry.run, entry.artifact, told(metric, entry.metric), by, f"{entry.bytes:,}" if entry.bytes else "",
        f"{cell['median_ms']:.2f}" if cell else "",
        f"{cell['ci_low_ms']:.2f} to {cell['ci_high_ms']:.2f}" if cell else "",
        ratio_text(ratio),
        "kept" if entry.kept else {"text": "broken", "style": "bad"},
        "yes" if entry.name in best else "",
    ]  # fmt: skip
