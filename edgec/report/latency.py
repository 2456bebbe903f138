"""The latency section: cells, runtimes, where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgec.report import charts
from edgec.report.figures import Data, interval, optional, ratio_text, told

LATENCY = [
    "artifact", "runtime", "input", "threads", "median ms", "95 % interval", "p90", "p99", "first ms", "load ms", "peak MB",
    "runs", "against dense fp32",
]  # fmt: skip


def one_thread(rows: Sequence[Data], artifact: str) -> Data | None:
    """The row (a cell, or a ratio) of an artifact in onnxruntime with one thread."""
    wanted = (artifact, "onnxruntime", 1)
    return next((r for r in rows if (r["artifact"], r["runtime"], r["threads"]) == wanted), None)


def latency_rows(profile: Data) -> list[list[Any]]:
    ratios = {
        (s["artifact"], s["runtime"], s["threads"]): s
        for s in profile.get("speedups", [])
        if s["against"] == "dense.fp32"
    }
    rows: list[list[Any]] = []
    for c in profile.get("cells", []):
        ratio = ratios.get((c["artifact"], c["runtime"], c["threads"]))
        rows.append(
            [
                c["artifact"], c["runtime"], size_text(c), c["threads"], f"{c['median_ms']:.2f}",
                f"{c['ci_low_ms']:.2f} to {c['ci_high_ms']:.2f}", f"{c['p90_ms']:.2f}", f"{c['p99_ms']:.2f}",
                optional(c.get("first_ms")), optional(c.get("load_ms")), f"{(c.get('peak_rss_bytes') or 0) / 1e6:.0f}",
                c["runs"],
                ratio_text(ratio),
            ]
        )  # fmt: skip
    return rows


def thread_counts(d: Data) -> list[int]:
    return sorted({c["threads"] for c in (d["profile"] or {}).get("cells", [])})


def base_of(d: Data) -> str:
    """What every cell is held against."""
    rows = (d["profile"] or {}).get("across", [])
    return f"{rows[0]['against']} in onnxruntime" if rows else "dense"


def runtime_rows(d: Data) -> list[list[Any]]:
    """Every artifact in every runtime, with its accuracy there; empty where onnxruntime alone was measured."""
    profile: Data = d["profile"] or {}
    made = {(c["artifact"], c["runtime"]): c for c in profile.get("conversions", [])}
    if not made:
        return []
    cells = {(c["artifact"], c["runtime"], c["threads"]): c for c in profile["cells"]}
    ratios = {(r["artifact"], r["runtime"], r["threads"]): r for r in profile.get("across", [])}
    head = d["metrics"][0]
    rows: list[list[Any]] = []
    for artifact, runtime in dict.fromkeys((c["artifact"], c["runtime"]) for c in profile["cells"]):
        exported: Data = d["artifacts"].get(artifact) or {}
        conversion: Data = made.get((artifact, runtime)) or {}
        metrics = conversion.get("metrics") or (exported.get("val") if runtime == "onnxruntime" else None)
        size = conversion.get("bytes") or (exported.get("bytes") if runtime == "onnxruntime" else None)
        times = [cells.get((artifact, runtime, threads)) for threads in thread_counts(d)]
        ratio = next((r for t in thread_counts(d) if (r := ratios.get((artifact, runtime, t)))), None)
        rows.append(
            [
                artifact, runtime, told(head, (metrics or {}).get(head["name"])),
                f"{conversion['snr_db']:.1f}" if conversion.get("snr_db") is not None else "",
                f"{size:,}" if size else "", *(interval(cell) if cell else "" for cell in times),
                ratio_text(ratio),
            ]
        )  # fmt: skip
    return rows


def size_text(cell: Data) -> str:
    """Height x width of the inputs that were run."""
    return ", ".join(" x ".join(str(side) for side in size) for size in cell.get("size", []))


def latency_charts(profile: Data) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    cells = profile.get("cells", [])
    for threads in sorted({c["threads"] for c in cells}):
        samples = {
            f"{c['artifact']} {c['runtime']}": c["samples_ms"] for c in cells if c["threads"] == threads
        }
        title = f"every run, {threads} thread(s)"
        found.append(
            {
                "title": title,
                "svg": charts.strips(title, samples, "ms (the slowest 2 % are cut at the right edge)"),
            }
        )
    return found


def slower_text(s: Data) -> str:
    names = [
        f"{o['name'] or 'all'} ({o['type']}, +{o['extra_ms']:.2f} ms)" for o in s.get("operators", [])[:4]
    ]
    why = f"; it spends more on {', '.join(names)}" if names else ""
    return f"{s['artifact']} is slower than {s['against']} with {s['threads']} thread(s): {s['ratio']:.2f} x its speed{why}"


def operator_charts(profile: Data) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for artifact, totals in profile.get("operator_types", {}).items():
        ordered = dict(sorted(totals.items(), key=lambda item: -item[1])[:9])
        title = f"{artifact}: ms by operator type, 1 thread"
        found.append({"title": title, "svg": charts.bars(title, ordered, "ms")})
    return found


def operator_rows(profile: Data) -> dict[str, list[list[Any]]]:
    return {
        artifact: [
            [o["name"], o["type"], f"{o['ms']:.3f}", f"{100 * o['share']:.1f} %"] for o in operators[:20]
        ]
        for artifact, operators in profile.get("operators", {}).items()
    }
