"""The figures of a run as rows and charts, ready for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgec.report import charts
from edgec.report.charts import number
from edgec.report.figures import MISSING, change, exact, interval, percent, signed, titled, told
from edgec.report.latency import LATENCY, OPERATORS, one_thread, sections

Data = Mapping[str, Any]
GATES = ["promise", "limit", "measured", "verdict"]


def columns(d: Data) -> dict[str, list[str]]:
    """The heads of the tables that the page and the Markdown share."""
    titles = [titled(m) for m in d["metrics"]]
    on_test = [f"{titles[0]} test"] if tested(d) else []
    return {
        "gates": GATES,
        "inout": ["", "went in (dense, fp32)", f"came out ({d['shipped'] or 'no artifact'})", "change"],
        "stages": ["stage", *titles, "parameters", "MACs", "padded MACs", "seconds", "cached", "flags"],
        "artifacts": [
            "artifact", "bytes", "zipped", *(f"{title} val" for title in titles), *on_test, "drop val", "SNR dB",
            "integer convolutions",
        ],
        "ways": ["way", "bits of a weight", "bytes", "zipped", *titles, f"{titles[0]} against float", "median ms, 1 thread"],
        "latency": LATENCY,
        "operators": OPERATORS,
    }  # fmt: skip


def tested(d: Data) -> bool:
    """Whether there is a test split."""
    return any(a.get("test") for a in d["artifacts"].values())


def view(d: Data) -> dict[str, Any]:
    """Everything that the page shows, from the report's JSON; a part that was not run gives empty rows."""
    return {
        **{
            k: d[k]
            for k in ("recipe", "task", "metric", "date", "seconds", "gates", "kept", "shipped", "command")
        },
        **{k: d[k] for k in ("environment", "seed", "data", "network", "notes")},
        "columns": columns(d),
        "tiles": tiles(d),
        "gate_rows": gate_rows(d),
        "inout_rows": inout_rows(d),
        "stage_rows": [stage_row(s, d) for s in d["stages"]],
        "artifact_rows": artifact_rows(d),
        "devices": sections(d),
        "channel_charts": [
            {
                "title": f"channels kept by {p['stage']}",
                "svg": charts.kept_channels(f"channels kept by {p['stage']}", p["layers"]),
            }
            for p in d["prunings"]
        ],
        "group_rows": [group_row(g) for p in d["prunings"] for g in p["groups"]],
        "gamma_chart": gamma_chart(d),
        "curve_charts": curve_charts(d),
        "sensitivity_rows": [
            [
                s["layer"],
                f"{s['sqnr_db']:.1f}",
                number(s["cost"]) if s.get("cost") else "",
                change(d["metrics"][0], s["metric_drop"], 0) if s.get("metric_drop") is not None else "",
                "yes" if s["kept_float"] else "",
            ]
            for s in (d["quantized"] or {}).get("sensitivity", [])
        ],
        "fusion_rows": [
            [f["layer"], f["reason"]]
            for f in ((d["quantized"] or {}).get("fusion") or {}).get("left_float", [])
        ],
        "way_rows": way_rows(d),
        "weight_rows": weight_rows(d),
        "weight_charts": weight_charts(d),
        "compressor_rows": [
            [t["observer"], told(d["metrics"][0], t["metric"])]
            for t in ((d["quantized"] or {}).get("equalised") or {})
            .get("neural_compressor", {})
            .get("tried", [])
        ],
    }


def way_rows(d: Data) -> list[list[Any]]:
    """float, after training and trained with the rounding, side by side, on the validation split; empty without integers."""
    stages = d["rounded"]
    if not stages:
        return []
    head = d["metrics"][0]
    rows: list[list[Any]] = []
    for precision in ("fp32", "fp16"):
        a: Data = d["artifacts"].get(f"model.{precision}") or {}
        if a:
            against = change(head, a["drop_from_torch"], 0) if a["drop_from_torch"] is not None else ""
            rows.append(
                _way(precision, precision[2:], a["bytes"], a.get("zipped_bytes"), a.get("val"), against, d)
            )
    for s in stages:
        count = sum(w["count"] for w in s["weights"])
        bits = sum(w["bits"] * w["count"] for w in s["weights"]) / max(count, 1)
        way = "after training" if s["kind"] == "quantize" else "trained with the rounding"
        against = change(head, s["drop"], 0)
        name = f"{way} ({s['stage']})"
        rows.append(
            _way(name, f"{bits:.3g}", s["graph_bytes"], s["graph_zipped_bytes"], s["final"], against, d)
        )
    # what is exported is what the last of the stages made
    cells = {precision: _median_ms(f"model.{precision}", d) for precision in ("int8", "codebook")}
    rows[-1][-1] = ", ".join(f"{precision} {cell}" for precision, cell in cells.items() if cell)
    return rows


def _way(
    name: str, bits: str, size: int, zipped: int | None, metrics: Data | None, against: str, d: Data
) -> list[Any]:
    told_metrics = [told(m, (metrics or {}).get(m["name"])) for m in d["metrics"]]
    packed = f"{zipped:,}" if zipped else ""
    return [name, bits, f"{size:,}", packed, *told_metrics, against, _median_ms(f"model.{name}", d)]


def _median_ms(artifact: str, d: Data) -> str:
    """Of an artifact in onnxruntime with one thread; empty where it was not profiled."""
    cell = one_thread((d["profile"] or {}).get("cells", []), artifact)
    return f"{cell['median_ms']:.2f}" if cell else ""


def weight_rows(d: Data) -> list[list[Any]]:
    """How the integer layers store their weights; empty where all have 8 bits."""
    rows = (d["quantized"] or {}).get("weights", [])
    if all(r["bits"] == 8 for r in rows):
        return []
    return [
        [r["layer"], f"{r['count']:,}", r["bits"], f"{r['huffman_bits']:.2f}", len(r.get("points", [])) or ""]
        for r in sorted(rows, key=lambda r: -r["count"])
    ]


def weight_charts(d: Data) -> list[dict[str, str]]:
    """Where the weights of the largest layers lie, and the points that they take."""
    rows = [r for r in (d["quantized"] or {}).get("weights", []) if r.get("points")]
    found: list[dict[str, str]] = []
    for row in sorted(rows, key=lambda r: -r["count"])[:4]:
        title = f"{row['layer']}: {len(row['points'])} points"
        svg = charts.points(title, row["histogram"], row["points"], "of the channel's largest weight")
        found.append({"title": title, "svg": svg})
    return found


def tiles(d: Data) -> list[dict[str, str]]:
    """The headline figures."""
    dense, shipped, metric = d["dense"], d["out"], d["metrics"][0]
    found: list[dict[str, str]] = []
    if shipped.get("metric") is not None:
        note = f"dense fp32 {told(metric, dense['metric'])}" if dense.get("metric") is not None else ""
        found.append(
            {
                "name": f"{titled(metric)} in onnxruntime, {d['split']}",
                "value": told(metric, shipped["metric"]),
                "note": note,
            }
        )
    if shipped.get("speedup"):
        s = shipped["speedup"]
        interval = f"{s['ci_low']:.2f} to {s['ci_high']:.2f}, 1 thread, against dense fp32"
        verdict = (d["profile"] or {}).get("verdict", "quiet")
        note = interval if verdict == "quiet" else f"{interval}; the machine was {verdict}"
        found.append({"name": "speed-up", "value": f"{s['ratio']:.2f} x", "note": note})
    for key, name in (("params", "parameters"), ("macs", "MACs"), ("bytes", "file size")):
        if shipped.get(key) and dense.get(key):
            found.append(
                {
                    "name": name,
                    "value": percent(dense[key], shipped[key]),
                    "note": f"{number(dense[key])} to {number(shipped[key])}",
                }
            )
    return found


def gate_rows(d: Data) -> list[list[Any]]:
    return [
        [
            g["promise"],
            exact(g["limit"]),
            exact(g["measured"]),
            {
                "text": "kept" if g["kept"] else f"broken: {g['remedy']}",
                "style": "good" if g["kept"] else "bad",
            },
        ]
        for g in d["gates"]
    ]


def inout_rows(d: Data) -> list[list[Any]]:
    dense, out = d["dense"], d["out"]
    rows = [
        [
            name,
            number(dense[key]) if dense.get(key) else "",
            number(out[key]) if out.get(key) else "",
            percent(dense.get(key), out.get(key)),
        ]
        for key, name in (
            ("params", "parameters"),
            ("macs", "MACs"),
            ("padded_macs", "padded MACs"),
            ("bytes", "file size, bytes"),
        )
    ]
    for split in ("val", "test"):
        for metric, key, title in compared(d, split):
            a, b = ((side.get(split) or {}).get(key) for side in (dense, out))
            if a is not None or b is not None:
                by = change(metric, a, b) if a is not None and b is not None else ""
                rows.append([title, told(metric, a), told(metric, b), by])
    for threads in d["threads"]:
        a, b = (x["latency"].get(str(threads)) for x in (dense, out))
        if a and b:
            rows.append(
                [
                    f"latency ms, {threads} thread(s)",
                    interval(a),
                    interval(b),
                    percent(a["median_ms"], b["median_ms"]),
                ]
            )
    return rows


def compared(d: Data, split: str) -> list[tuple[Data, str, str]]:
    """(metric, key, title) of what is compared on a split: all metrics, over all images and on each named set if several.

    "psnr/set5" is the figure of a set; further parts of a key are single images, which do not stand in the tables.
    """
    there = {**(d["dense"].get(split) or {}), **(d["out"].get(split) or {})}
    head = d["metrics"][0]["name"]
    sets = [k.partition("/")[2] for k in there if k.startswith(f"{head}/") and k.count("/") == 1]
    found = [(m, m["name"], f"{titled(m)}, {split}") for m in d["metrics"]]
    if len(sets) > 1:
        found += [(m, f"{m['name']}/{s}", f"{titled(m)}, {split}, {s}") for s in sets for m in d["metrics"]]
    return found


def stage_row(s: Data, d: Data) -> list[Any]:
    cost: Data = s.get("cost") or {}
    final: Data = s.get("final") or {}
    return [
        s["name"],
        *(told(m, final[m["name"]]) if final.get(m["name"]) is not None else "" for m in d["metrics"]),
        f"{cost['params']:,}" if cost else "",
        number(cost["macs"]) if cost else "",
        number(cost["padded_macs"]) if cost else "",
        f"{s['seconds']:.1f}" if s.get("seconds") is not None else "",
        "yes" if s.get("cached") else "",
        {"text": "; ".join(s["flags"]), "style": "wrap warn" if s["flags"] else "wrap"},
    ]


def artifact_rows(d: Data) -> list[list[Any]]:
    rows: list[list[Any]] = []
    head = d["metrics"][0]
    for name, a in d["artifacts"].items():
        val, test, fusion = a.get("val") or {}, a.get("test") or {}, a.get("fusion")
        rows.append(
            [
                name,
                f"{a['bytes']:,}",
                f"{a['zipped_bytes']:,}" if a.get("zipped_bytes") else "",
                *(told(m, val.get(m["name"])) for m in d["metrics"]),
                *([told(head, test.get(head["name"]))] if tested(d) else []),
                signed(a["drop_from_torch"], head["digits"]),
                MISSING if a["snr_db"] is None else f"{a['snr_db']:.1f}",
                f"{fusion['integer']} of {fusion['wanted']} wanted" if fusion else "",
            ]
        )
    return rows


def group_row(g: Data) -> list[Any]:
    return [
        g["name"],
        g["before"],
        g["kept"],
        f"{100 * g['kept'] / g['before']:.1f} %",
        f"{g['threshold']:.4f}",
        f"{100 * g['ratio']:.1f} %",
    ]


def gamma_chart(d: Data) -> dict[str, str] | None:
    gamma = d["gamma"]
    if not gamma:
        return None
    norms = gamma.get("signal") == "filter_norms"
    what = "norms of filters (relative to their layer)" if norms else "batch-norm scales"
    title = f"{what} before and after sparse training"
    svg = charts.histograms(title, gamma["edges"], {"before": gamma["before"], "after": gamma["after"]},
                            "norm" if norms else "|scale|")  # fmt: skip
    before, after = (100 * gamma[f"near_zero_{when}"] for when in ("before", "after"))
    note = (
        f"{before:.1f} % of the {'norms' if norms else 'scales'} were below 0.01 before, {after:.1f} % after."
    )
    return {"title": title, "svg": svg, "note": note}


def curve_charts(d: Data) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for stage in d["stages"]:
        curves = stage.get("curves") or []
        if not curves:
            continue
        names = [n for n in curves[-1]["losses"] if n != "total"]
        largest = sorted(names, key=lambda n: -(curves[-1]["losses"][n] or 0))[:7]
        losses = {
            n: [(c["epoch"] + 1, c["losses"][n]) for c in curves if c["losses"].get(n) is not None]
            for n in largest
        }
        title = f"{stage['name']}: loss terms"
        found.append({"title": title, "svg": charts.lines(title, losses, "epoch", "weighted loss")})
        measured = {
            m["name"]: [
                (c["epoch"] + 1, c["metrics"][m["name"]])
                for c in curves
                if c["metrics"] and m["name"] in c["metrics"]
            ]
            for m in d["metrics"]
        }
        for each in one_scale(d["metrics"]):
            drawn = {titled(m): measured[m["name"]] for m in each}
            if any(len(p) > 1 for p in drawn.values()):
                title = f"{stage['name']}: {' and '.join(drawn)} on the validation split"
                found.append({"title": title, "svg": charts.lines(title, drawn, "epoch", "")})
    return found


def one_scale(metrics: Sequence[Data]) -> list[list[Data]]:
    """The metrics that can share a chart: those with one unit."""
    units = dict.fromkeys((m["unit"], m["share"]) for m in metrics)
    return [[m for m in metrics if (m["unit"], m["share"]) == unit] for unit in units]
