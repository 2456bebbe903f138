"""The latency section, device by device: cases, runtimes, where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import AnyArtifact
from edgec.core.results.export import ArtifactResult
from edgec.core.results.profile import (
    ONNXRUNTIME,
    Conversion,
    DeviceEnvironment,
    DeviceFigures,
    Latency,
    OperatorTimes,
    Slower,
)
from edgec.core.results.table import Bars, Lines, Table
from edgec.report import charts
from edgec.report.drawn import Drawn, draw
from edgec.report.figures import interval, ratio_text
from edgec.report.latency_table import latency_table
from edgec.report.model import Report

MOST_TYPES = 9  # of operators in a chart
MOST_OPERATORS = 20  # in a table
OTHER, NOT_PRUNED = "other operators", "not pruned"


@dataclass(frozen=True)
class DeviceSection:
    """What the page shows of one device."""

    device: str
    about: str
    verdict: str
    reasons: Sequence[str]
    latency: Table
    charts: Sequence[Drawn]
    slower: Sequence[str]
    runtimes: Table
    refused: Table
    operator_charts: Sequence[Drawn]  # in onnxruntime
    other_operator_charts: Sequence[Drawn]
    operators: Sequence[Table]


def device_sections(report: Report, groups: Mapping[str, str]) -> list[DeviceSection]:
    """What the page shows of each device; empty without a profile stage. `groups`: the scale group by layer."""
    if report.profile is None:
        return []
    return [_section(report, figures, groups) for figures in report.profile.devices]


def _section(report: Report, figures: DeviceFigures, groups: Mapping[str, str]) -> DeviceSection:
    on = _on(figures)
    own = [times for times in figures.operators if times.runtime == ONNXRUNTIME]
    others = [times for times in figures.operators if times.runtime != ONNXRUNTIME]
    return DeviceSection(
        device=figures.device,
        about=about(figures.environment),
        verdict=figures.verdict,
        reasons=figures.reasons,
        latency=latency_table(figures),
        charts=[*_every_run(figures), *_scaling(figures)],
        slower=[slower_text(row) for row in figures.slower],
        runtimes=runtimes_table(report, figures),
        refused=Table(
            f"Not measured on {figures.device}",
            ["artifact", "runtime", "why"],
            [[f.artifact.name if f.artifact else f.device, f.runtime, f.error] for f in figures.failures],
        ),
        operator_charts=[chart for times in own for chart in _operator_charts(times, groups, on)],
        other_operator_charts=[chart for times in others for chart in _operator_charts(times, groups, on)],
        operators=[_operators_table(times) for times in figures.operators],
    )


def about(environment: DeviceEnvironment) -> str:
    """What a measurement depends on, in one line."""
    e = environment
    busy = f"{e.busy_cores:.1f} of them at work before" if e.busy_cores is not None else ""
    facts = (
        e.cpu, f"{e.cores} cores", e.os, f"governor {e.governor}", busy, f"temperature (C) {e.temperature_c}",
        f"energy {e.energy}", f"pinned: {e.pinned}",
    )  # fmt: skip
    return " · ".join(fact for fact in facts if fact)


def runtimes_table(report: Report, figures: DeviceFigures) -> Table:
    """Every artifact in every runtime, with its accuracy there; no rows where onnxruntime alone was measured."""
    counts = figures.thread_counts
    base = f"{figures.across[0].against} in onnxruntime" if figures.across else "dense"
    columns = [
        "artifact", "runtime", report.headline.label, "dB from onnxruntime", "bytes",
        *(f"median ms, {threads} thread(s)" for threads in counts), f"speed against {base}",
    ]  # fmt: skip
    title = f"Runtimes on {figures.device}"
    if {cell.runtime for cell in figures.cells} <= {ONNXRUNTIME}:
        return Table(title, columns, [])
    conversions = report.profile.conversions if report.profile is not None else ()
    by_case = {(c.artifact, c.runtime): c for c in conversions}
    rows: list[list[str]] = []
    for artifact, runtime in dict.fromkeys((c.artifact, c.runtime) for c in figures.cells):
        exported, conversion = report.artifacts.get(artifact), by_case.get((artifact, runtime))
        cells = [figures.latency_of(artifact, runtime, threads) for threads in counts]
        ratios = [figures.across_of(artifact, runtime, threads) for threads in counts]
        rows.append(
            [
                artifact.name, runtime, report.headline.text(_accuracy(report, exported, conversion, runtime)),
                f"{conversion.snr_db:.1f}" if conversion is not None and conversion.snr_db is not None else "",
                _size(exported, conversion, runtime), *(_interval(cell) for cell in cells),
                ratio_text(next((ratio for ratio in ratios if ratio is not None), None)),
            ]
        )  # fmt: skip
    return Table(title, columns, rows)


def _accuracy(
    report: Report, exported: ArtifactResult | None, conversion: Conversion | None, runtime: str
) -> float | None:
    """The headline metric as it was measured there, else as the export reported it: of the file in onnxruntime, and of the
    network in torch that it came from.
    """
    name = report.headline.name
    if conversion is not None and conversion.metrics.get(name) is not None:
        return conversion.metrics.get(name)
    val: Accuracy | None = exported.val if exported is not None else None
    if exported is None or val is None or (reached := val.get(name)) is None:
        return None
    if runtime == ONNXRUNTIME:
        return reached
    drop = exported.drop_from_torch
    return reached + drop if runtime.startswith("torch") and drop is not None else None


def _size(exported: ArtifactResult | None, conversion: Conversion | None, runtime: str) -> str:
    if conversion is not None and conversion.bytes:
        return f"{conversion.bytes:,}"
    return f"{exported.bytes:,}" if exported is not None and runtime == ONNXRUNTIME else ""


def _interval(cell: Latency | None) -> str:
    return "" if cell is None else interval(cell.median_ms, cell.ci_low_ms, cell.ci_high_ms)


def _on(figures: DeviceFigures) -> str:
    return "" if figures.device == "local" else f" on {figures.device}"


def _every_run(figures: DeviceFigures) -> list[Drawn]:
    drawn: list[Drawn] = []
    cells = [cell for cell in figures.cells if cell.batch == 1]
    for threads in sorted({cell.threads for cell in cells}):
        samples = {f"{c.artifact} {c.runtime}": c.samples_ms for c in cells if c.threads == threads}
        title = f"every run, {threads} thread(s){_on(figures)}"
        svg = charts.strips(title, samples, "ms (the slowest 2 % are cut at the right edge)")
        drawn.append(Drawn(title, svg))
    return drawn


def _scaling(figures: DeviceFigures) -> list[Drawn]:
    """Speed over threads, and images per second over batches, where more than one of them was measured."""
    one_batch = min((cell.batch for cell in figures.cells), default=1)
    few_threads = min((cell.threads for cell in figures.cells), default=1)
    by_threads = [cell for cell in figures.cells if cell.batch == one_batch]
    by_batch = [cell for cell in figures.cells if cell.threads == few_threads]
    described = (
        Lines(f"speed by threads{_on(figures)}", _swept(by_threads, lambda c: c.threads), "threads", "runs per second"),
        Lines(f"images per second by batch{_on(figures)}", _swept(by_batch, lambda c: c.batch, per_image=True), "batch",
              "images per second"),
    )  # fmt: skip
    return [draw(chart) for chart in described if chart.series]


def _swept(
    cells: Sequence[Latency], along: Callable[[Latency], int], per_image: bool = False
) -> dict[str, list[tuple[float, float]]]:
    """Points of each artifact in each runtime that was measured at more than one."""
    series: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        speed = 1e3 * (cell.batch if per_image else 1) / cell.median_ms
        series.setdefault(f"{cell.artifact} {cell.runtime}", []).append((along(cell), speed))
    return {name: sorted(points) for name, points in series.items() if len(points) > 1}


def slower_text(row: Slower) -> str:
    names = [f"{o.name or 'all'} ({o.type}, +{o.extra_ms:.2f} ms)" for o in row.operators[:4]]
    why = f"; it spends more on {', '.join(names)}" if names else ""
    return (
        f"{row.artifact} is slower than {row.against} in {row.runtime} with {row.threads} thread(s): {row.ratio:.2f} x its "
        f"speed{why}"
    )


def _operator_charts(times: OperatorTimes, groups: Mapping[str, str], on: str) -> list[Drawn]:
    """By type of operator and, where pruning named groups and layers are known, by scale group."""
    dearest = dict(sorted(times.types.items(), key=lambda item: -item[1])[:MOST_TYPES])
    described = [Bars(f"{times.name}: ms by operator type, 1 thread{on}", dearest, "ms")]
    by_group = _by_group(times, groups)
    if by_group:
        described.append(Bars(f"{times.name}: ms by scale group, 1 thread{on}", by_group, "ms"))
    return [draw(chart) for chart in described]


def _by_group(times: OperatorTimes, groups: Mapping[str, str]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for operator in times.operators:
        if groups and operator.layer:
            group = group_of(operator.layer, groups)
            totals[group] = totals.get(group, 0.0) + operator.ms
    if totals:
        totals[OTHER] = max(times.total_ms - sum(totals.values()), 0.0)
    return totals


def group_of(layer: str, groups: Mapping[str, str]) -> str:
    """The scale group of a layer; one that was decomposed into `layer.0` and `layer.1` is that of the whole."""
    whole, _, part = layer.rpartition(".")
    return groups.get(layer) or (groups.get(whole) if part in ("0", "1") else None) or NOT_PRUNED


def _operators_table(times: OperatorTimes) -> Table:
    rows = [
        [o.name, o.layer, o.type, f"{o.ms:.3f}", f"{100 * o.share:.1f} %"]
        for o in times.operators[:MOST_OPERATORS]
    ]
    return Table(times.name, ["operator", "layer", "type", "ms", "share"], rows)


def one_thread(report: Report, artifact: AnyArtifact) -> Latency | None:
    """Of an artifact in onnxruntime with one thread; None where it was not profiled."""
    return report.profile.first.latency_of(artifact) if report.profile is not None else None
