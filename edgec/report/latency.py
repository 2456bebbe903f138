"""The latency section, device by device: cells, runtimes, where the time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgec.report import charts
from edgec.report.figures import Data, interval, optional, ratio_text, titled, told

LATENCY = [
    "artifact", "runtime", "batch", "input", "threads", "median ms", "95 % interval", "p5", "p90", "p99", "first ms", "load ms",
    "peak MB", "runs", "against dense fp32",
]  # fmt: skip
OPERATORS = ["operator", "layer", "type", "ms", "share"]
ENVIRONMENT = {  # what a measurement depends on, as it is told
    "cpu": "{}", "cores": "{} cores", "os": "{}", "governor": "governor {}", "busy_cores": "{:.1f} of them at work before",
    "temperature_c": "temperature (C) {}", "energy": "energy {}", "pinned": "pinned: {}",
}  # fmt: skip


def one_thread(rows: Sequence[Data], artifact: str) -> Data | None:
    """The row (a cell, or a ratio) of an artifact in onnxruntime with one thread."""
    wanted = (artifact, "onnxruntime", 1, 1)
    return next((r for r in rows if key_of(r) == wanted), None)


def key_of(row: Data) -> tuple[str, str, int, int]:
    return row["artifact"], row["runtime"], row["threads"], row.get("batch", 1)


def sections(d: Data) -> list[dict[str, Any]]:
    """What the page shows of each device; empty without a profile stage."""
    profile: Data = d["profile"] or {}
    if not profile.get("cells"):
        return []
    made = profile.get("conversions", [])
    return [section(d, figures, made) for figures in (profile, *profile.get("others", []))]


def section(d: Data, figures: Data, made: Sequence[Data]) -> dict[str, Any]:
    about: Data = figures.get("environment") or {}
    facts = [words.format(about[name]) for name, words in ENVIRONMENT.items() if about.get(name) is not None]
    charted = operator_charts(figures, scale_groups(d))
    counts = thread_counts(figures)
    return {
        "device": figures.get("device", "local"),
        "about": " · ".join(facts),
        "verdict": figures.get("verdict", ""),
        "reasons": figures.get("reasons", []),
        "latency_rows": latency_rows(figures),
        "latency_charts": latency_charts(figures) + scaling_charts(figures),
        "slower_rows": [slower_text(s) for s in figures.get("slower", [])],
        "runtime_rows": runtime_rows(d, figures, made),
        "runtime_columns": [
            "artifact", "runtime", titled(d["metrics"][0]), "dB from onnxruntime", "bytes",
            *(f"median ms, {threads} thread(s)" for threads in counts), f"speed against {base_of(figures)}",
        ],
        "refused_rows": [
            [f["artifact"] or f.get("device", ""), f["runtime"], f["error"]] for f in figures.get("failures", [])
        ],
        "operator_charts": [c for c in charted if " in " not in c["title"].partition(":")[0]],
        "other_operator_charts": [c for c in charted if " in " in c["title"].partition(":")[0]],
        "operator_rows": operator_rows(figures),
    }  # fmt: skip


def latency_rows(figures: Data) -> list[list[Any]]:
    ratios = {key_of(s): s for s in figures.get("speedups", []) if s["against"] == "dense.fp32"}
    return [
        [
            c["artifact"], c["runtime"], c.get("batch", 1), size_text(c), c["threads"], f"{c['median_ms']:.2f}",
            f"{c['ci_low_ms']:.2f} to {c['ci_high_ms']:.2f}", exact(c.get("p5_ms")), exact(c["p90_ms"]), exact(c["p99_ms"]),
            optional(c.get("first_ms")), optional(c.get("load_ms")),
            f"{c['peak_rss_bytes'] / 1e6:.0f}" if c.get("peak_rss_bytes") else "", c["runs"],
            ratio_text(ratios.get(key_of(c))),
        ]
        for c in figures.get("cells", [])
    ]  # fmt: skip


def exact(ms: float | None) -> str:
    """Milliseconds; empty where the device does not tell them."""
    return "" if ms is None else f"{ms:.2f}"


def thread_counts(figures: Data) -> list[int]:
    return sorted({c["threads"] for c in figures.get("cells", [])})


def base_of(figures: Data) -> str:
    """What every cell is held against."""
    rows = figures.get("across", [])
    return f"{rows[0]['against']} in onnxruntime" if rows else "dense"


def runtime_rows(d: Data, figures: Data, conversions: Sequence[Data]) -> list[list[Any]]:
    """Every artifact in every runtime, with its accuracy there; empty where onnxruntime alone was measured."""
    made = {(c["artifact"], c["runtime"]): c for c in conversions}
    if {c["runtime"] for c in figures["cells"]} <= {"onnxruntime"}:
        return []
    cells = {key_of(c): c for c in figures["cells"]}
    ratios = {key_of(r): r for r in figures.get("across", [])}
    head = d["metrics"][0]
    counts = thread_counts(figures)
    rows: list[list[Any]] = []
    for artifact, runtime in dict.fromkeys((c["artifact"], c["runtime"]) for c in figures["cells"]):
        exported: Data = d["artifacts"].get(artifact) or {}
        conversion: Data = made.get((artifact, runtime)) or {}
        metrics = conversion.get("metrics") or _known_metrics(exported, runtime, head["name"])
        size = conversion.get("bytes") or (exported.get("bytes") if runtime == "onnxruntime" else None)
        times = [cells.get((artifact, runtime, threads, 1)) for threads in counts]
        ratio = next((r for t in counts if (r := ratios.get((artifact, runtime, t, 1)))), None)
        rows.append(
            [
                artifact, runtime, told(head, (metrics or {}).get(head["name"])),
                f"{conversion['snr_db']:.1f}" if conversion.get("snr_db") is not None else "",
                f"{size:,}" if size else "", *(interval(cell) if cell else "" for cell in times),
                ratio_text(ratio),
            ]
        )  # fmt: skip
    return rows


def _known_metrics(exported: Data, runtime: str, headline: str) -> Data | None:
    """What the export has told: of the file in onnxruntime, and of the network that it came from."""
    found: Data | None = exported.get("val")
    if runtime == "onnxruntime" or not found:
        return found
    drop = exported.get("drop_from_torch")
    if runtime.startswith("torch") and drop is not None and found.get(headline) is not None:
        return {headline: found[headline] + drop}
    return None


def size_text(cell: Data) -> str:
    """Height x width of the inputs that were run."""
    return ", ".join(" x ".join(str(side) for side in size) for size in cell.get("size", []))


def latency_charts(figures: Data) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    cells = [c for c in figures.get("cells", []) if c.get("batch", 1) == 1]
    for threads in sorted({c["threads"] for c in cells}):
        samples = {
            f"{c['artifact']} {c['runtime']}": c["samples_ms"] for c in cells if c["threads"] == threads
        }
        title = f"every run, {threads} thread(s){_on(figures)}"
        found.append(
            {
                "title": title,
                "svg": charts.strips(title, samples, "ms (the slowest 2 % are cut at the right edge)"),
            }
        )
    return found


def scaling_charts(figures: Data) -> list[dict[str, str]]:
    """Speed over threads, and images a second over batches, where more than one of them was measured."""
    found: list[dict[str, str]] = []
    cells = figures.get("cells", [])
    for title, along, x_label, y_label, speed in (
        ("speed by threads", "threads", "threads", "runs a second", lambda c: 1e3 / c["median_ms"]),
        ("images a second by batch", "batch", "batch", "images a second", lambda c: 1e3 * c.get("batch", 1) / c["median_ms"]),
    ):  # fmt: skip
        fixed = "batch" if along == "threads" else "threads"
        series: dict[str, list[tuple[float, float]]] = {}
        for c in cells:
            if c.get(fixed, 1) == min(other.get(fixed, 1) for other in cells):
                series.setdefault(f"{c['artifact']} {c['runtime']}", []).append((c.get(along, 1), speed(c)))
        swept = {name: sorted(points) for name, points in series.items() if len(points) > 1}
        if swept:
            title += _on(figures)
            found.append({"title": title, "svg": charts.lines(title, swept, x_label, y_label)})
    return found


def _on(figures: Data) -> str:
    device = figures.get("device", "local")
    return "" if device == "local" else f" on {device}"


def slower_text(s: Data) -> str:
    names = [
        f"{o['name'] or 'all'} ({o['type']}, +{o['extra_ms']:.2f} ms)" for o in s.get("operators", [])[:4]
    ]
    why = f"; it spends more on {', '.join(names)}" if names else ""
    return (
        f"{s['artifact']} is slower than {s['against']} in {s['runtime']} with {s['threads']} thread(s): {s['ratio']:.2f} x its "
        f"speed{why}"
    )


def scale_groups(d: Data) -> dict[str, str]:
    """The scale group of each convolution that pruning could take from, by module name; empty without pruning."""
    return {
        name: layer["group"]
        for pruning in d["prunings"]
        for layer in pruning["layers"]
        for name in layer.get("layers", [layer["name"]])
    }


def operator_charts(figures: Data, groups: Mapping[str, str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for artifact, totals in figures.get("operator_types", {}).items():
        ordered = dict(sorted(totals.items(), key=lambda item: -item[1])[:9])
        title = f"{artifact}: ms by operator type, 1 thread{_on(figures)}"
        found.append({"title": title, "svg": charts.bars(title, ordered, "ms")})
        by_group: dict[str, float] = {}
        for operator in figures["operators"][artifact]:
            if groups and operator.get("layer"):
                group = groups.get(operator["layer"], "not pruned")
                by_group[group] = by_group.get(group, 0.0) + operator["ms"]
        if by_group:
            by_group["other operators"] = max(sum(totals.values()) - sum(by_group.values()), 0.0)
            title = f"{artifact}: ms by scale group, 1 thread{_on(figures)}"
            found.append({"title": title, "svg": charts.bars(title, by_group, "ms")})
    return found


def operator_rows(figures: Data) -> dict[str, list[list[Any]]]:
    return {
        artifact: [
            [o["name"], o.get("layer", ""), o["type"], f"{o['ms']:.3f}", f"{100 * o['share']:.1f} %"]
            for o in operators[:20]
        ]
        for artifact, operators in figures.get("operators", {}).items()
    }
