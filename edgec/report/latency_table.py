"""The latencies of one device as a table, for the page and for the terminal."""

from __future__ import annotations

from edgec.core.results.artifact_id import DENSE
from edgec.core.results.profile import DeviceFigures, Latency, Speedup
from edgec.core.results.table import Cell, Table
from edgec.report.figures import optional, ratio_text


def latency_table(figures: DeviceFigures, brief: bool = False) -> Table:
    """A row for each case. `brief` leaves out what a terminal has no room for, and batches where all are 1."""
    batched = not brief or any(cell.batch != 1 for cell in figures.cells)
    columns = {
        "artifact": [cell.artifact.name for cell in figures.cells],
        "runtime": [cell.runtime for cell in figures.cells],
        "batch": [cell.batch for cell in figures.cells] if batched else None,
        "input": None if brief else [size_text(cell) for cell in figures.cells],
        "threads": [cell.threads for cell in figures.cells],
        "median ms": [f"{cell.median_ms:.2f}" for cell in figures.cells],
        "95 % interval": [f"{cell.ci_low_ms:.2f} to {cell.ci_high_ms:.2f}" for cell in figures.cells],
        "p5": [optional(cell.p5_ms, 2) for cell in figures.cells],
        "p90": [optional(cell.p90_ms, 2) for cell in figures.cells],
        "p99": [optional(cell.p99_ms, 2) for cell in figures.cells],
        "first ms": None if brief else [optional(cell.first_ms) for cell in figures.cells],
        "load ms": None if brief else [optional(cell.load_ms) for cell in figures.cells],
        "peak MB": [f"{cell.peak_rss_bytes / 1e6:.0f}" if cell.peak_rss_bytes else "" for cell in figures.cells],
        "runs": [cell.runs for cell in figures.cells],
        "against dense fp32": None if brief else [ratio_text(_to_dense(figures, cell)) for cell in figures.cells],
    }  # fmt: skip
    shown: dict[str, list[Cell]] = {
        name: list(values) for name, values in columns.items() if values is not None
    }
    rows = [list(row) for row in zip(*shown.values(), strict=True)]
    return Table(f"latency on {machine(figures)}: {figures.verdict}", list(shown), rows)


def ratio_lines(figures: DeviceFigures) -> list[str]:
    """How many times as fast each artifact is as what it is compared with, one sentence per artifact."""
    return [
        f"{s.artifact} is {s.ratio:.2f} ({s.ci_low:.2f} to {s.ci_high:.2f}) times as fast as {s.against} with "
        f"{s.threads} thread(s){f', batch {s.batch}' if s.batch != 1 else ''} in {s.runtime}"
        for s in figures.speedups
    ]


def machine(figures: DeviceFigures) -> str:
    return "this machine" if figures.device == "local" else figures.device


def size_text(cell: Latency) -> str:
    """Height x width of the inputs that were run."""
    return ", ".join(" x ".join(str(side) for side in size) for size in cell.size)


def _to_dense(figures: DeviceFigures, cell: Latency) -> Speedup | None:
    return figures.speedup_of(cell.artifact, DENSE, cell.runtime, cell.threads, cell.batch)
