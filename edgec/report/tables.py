"""The tables that every report has: headline figures, gates, in and out, stages, artifacts, ways to fewer bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgec.core.metric import MISSING, Metric, short, signed
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import ArtifactId
from edgec.core.results.export import ArtifactResult
from edgec.core.results.table import Cell, Marked, Table
from edgec.core.results.verdict import Verdict
from edgec.report.figures import interval, percent, unrounded
from edgec.report.latency import one_thread
from edgec.report.model import Report, RoundedStage, Side, StageRow


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    name: str
    value: str
    note: str


def tiles(report: Report) -> list[Tile]:
    dense, out, metric = report.dense, report.out, report.headline
    tiles: list[Tile] = []
    if out.metric is not None:
        note = f"dense fp32 {metric.text(dense.metric)}" if dense.metric is not None else ""
        name = f"{metric.label} in onnxruntime, {report.split}"
        tiles.append(Tile(name, metric.text(out.metric), note))
    if out.speedup is not None:
        s = out.speedup
        note = f"{s.ci_low:.2f} to {s.ci_high:.2f}, 1 thread, against dense fp32"
        verdict = report.profile.first.verdict if report.profile is not None else "quiet"
        note += "" if verdict == "quiet" else f"; the machine was {verdict}"
        tiles.append(Tile("speed-up", f"{s.ratio:.2f} x", note))
    for name, before, after in (
        ("parameters", dense.params, out.params),
        ("MACs", dense.macs, out.macs),
        ("file size", dense.bytes, out.bytes),
    ):
        if before and after:
            tiles.append(Tile(name, percent(before, after), f"{short(before)} to {short(after)}"))
    return tiles


def gates_table(report: Report) -> Table:
    rows = [[g.promise, unrounded(g.limit), unrounded(g.measured), _verdict(g)] for g in report.gates]
    return Table("Gates", ["promise", "limit", "measured", "verdict"], rows)


def _verdict(gate: Verdict) -> Marked:
    return Marked("kept", "good") if gate.kept else Marked(f"broken: {gate.remedy}", "bad")


def inout_table(report: Report) -> Table:
    """What went in beside what came out."""
    dense, out = report.dense, report.out
    columns = ["", "went in (dense, fp32)", f"came out ({report.shipped or 'no artifact'})", "change"]
    rows = [
        [name, short(before) if before else "", short(after) if after else "", percent(before, after)]
        for name, before, after in (
            ("parameters", dense.params, out.params),
            ("MACs", dense.macs, out.macs),
            ("padded MACs", dense.padded_macs, out.padded_macs),
            ("file size, bytes", dense.bytes, out.bytes),
        )
    ]
    for split in ("val", "test"):
        for row in compared(dense, out, report.metrics, split):
            if row.before is not None or row.after is not None:
                both = row.before is not None and row.after is not None
                by = row.metric.change(row.before or 0.0, row.after or 0.0) if both else ""
                rows.append([row.title, row.metric.text(row.before), row.metric.text(row.after), by])
    for threads in report.threads:
        a, b = (side.latency.get(str(threads)) for side in (dense, out))
        if a is not None and b is not None:
            before, after = (interval(x.median_ms, x.ci_low_ms, x.ci_high_ms) for x in (a, b))
            by = percent(a.median_ms, b.median_ms)
            rows.append([f"latency ms, {threads} thread(s)", before, after, by])
    return Table("In and out", columns, rows)


@dataclass(frozen=True)
class Compared:
    metric: Metric
    title: str
    before: float | None
    after: float | None


def compared(dense: Side, out: Side, metrics: tuple[Metric, ...], split: str) -> list[Compared]:
    """All metrics of a split, over all images and, where there are several named sets, on each of them."""
    before, after = (side.accuracy(split) or Accuracy() for side in (dense, out))
    head = metrics[0].name
    sets = list({**before.by_set.get(head, {}), **after.by_set.get(head, {})})
    rows = [Compared(m, f"{m.label}, {split}", before.get(m.name), after.get(m.name)) for m in metrics]
    if len(sets) > 1:
        rows += [
            Compared(m, f"{m.label}, {split}, {name}", _on_set(before, m, name), _on_set(after, m, name))
            for name in sets
            for m in metrics
        ]
    return rows


def _on_set(accuracy: Accuracy, metric: Metric, name: str) -> float | None:
    return accuracy.by_set.get(metric.name, {}).get(name)


def stages_table(report: Report) -> Table:
    columns = [
        "stage",
        *(m.label for m in report.metrics),
        "parameters",
        "MACs",
        "padded MACs",
        "seconds",
        "cached",
        "flags",
    ]
    return Table("Stages", columns, [_stage_row(stage, report) for stage in report.stages])


def _stage_row(stage: StageRow, report: Report) -> list[Cell]:
    cost, final = stage.cost, stage.final or Accuracy()
    values = [final.get(metric.name) for metric in report.metrics]
    return [
        stage.name,
        *(m.text(v) if v is not None else "" for m, v in zip(report.metrics, values, strict=True)),
        f"{cost.params:,}" if cost else "",
        short(cost.macs) if cost else "",
        short(cost.padded_macs) if cost else "",
        f"{stage.seconds:.1f}" if stage.seconds is not None else "",
        "yes" if stage.cached else "",
        Marked("; ".join(stage.flags), "wrap warn" if stage.flags else "wrap"),
    ]


def artifacts_table(report: Report) -> Table:
    head = report.headline
    columns = [
        "artifact", "bytes", "zipped", *(f"{m.label} val" for m in report.metrics),
        *([f"{head.label} test"] if report.tested else []), "drop val", "SNR dB", "integer convolutions",
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for name, a in report.artifacts.items():
        test = [head.text(_value(a.test, head))] if report.tested else []
        rows.append(
            [
                name.name,
                f"{a.bytes:,}",
                f"{a.zipped_bytes:,}" if a.zipped_bytes else "",
                *(m.text(_value(a.val, m)) for m in report.metrics),
                *test,
                signed(a.drop_from_torch, head.digits),
                MISSING if a.snr_db is None else f"{a.snr_db:.1f}",
                f"{a.fusion.integer} of {a.fusion.wanted} wanted" if a.fusion is not None else "",
            ]
        )
    return Table("Artifacts", columns, rows)


def _value(accuracy: Accuracy | None, metric: Metric) -> float | None:
    return None if accuracy is None else accuracy.get(metric.name)


def ways_table(report: Report) -> Table:
    """float, post-training quantization and QAT side by side, on the validation split; no rows without integers."""
    head = report.headline
    columns = [
        "way", "bits per weight", "bytes", "zipped", *(m.label for m in report.metrics), f"{head.label} against float",
        "median ms, 1 thread",
    ]  # fmt: skip
    if not report.rounded:
        return Table("Ways to fewer bits", columns, [])
    rows: list[list[Cell]] = []
    for artifact in (ArtifactId("model", "fp32"), ArtifactId("model", "fp16")):
        exported = report.artifacts.get(artifact)
        if exported is not None:
            rows.append(_float_way(artifact, exported, report))
    rows += [_rounded_way(stage, report) for stage in report.rounded]
    # what is exported is what the last of the stages made
    integers = (ArtifactId("model", "int8"), ArtifactId("model", "codebook"))
    cells = {artifact.precision: _median_ms(artifact, report) for artifact in integers}
    rows[-1][-1] = ", ".join(f"{precision} {cell}" for precision, cell in cells.items() if cell)
    return Table("Ways to fewer bits", columns, rows)


def _float_way(artifact: ArtifactId, exported: ArtifactResult, report: Report) -> list[Cell]:
    drop = exported.drop_from_torch
    return [
        artifact.precision,
        artifact.precision.removeprefix("fp"),
        f"{exported.bytes:,}",
        f"{exported.zipped_bytes:,}" if exported.zipped_bytes else "",
        *(m.text(_value(exported.val, m)) for m in report.metrics),
        report.headline.change(drop, 0) if drop is not None else "",
        _median_ms(artifact, report),
    ]


def _rounded_way(stage: RoundedStage, report: Report) -> list[Cell]:
    count = sum(w.count for w in stage.weights)
    bits = sum(w.bits * w.count for w in stage.weights) / max(count, 1)
    way = "post-training" if stage.kind == "quantize" else "QAT"
    return [
        f"{way} ({stage.stage})",
        f"{bits:.3g}",
        f"{stage.graph_bytes:,}",
        f"{stage.graph_zipped_bytes:,}" if stage.graph_zipped_bytes else "",
        *(m.text(_value(stage.final, m)) for m in report.metrics),
        report.headline.change(stage.drop, 0),
        "",
    ]


def _median_ms(artifact: ArtifactId, report: Report) -> str:
    cell = one_thread(report, artifact)
    return f"{cell.median_ms:.2f}" if cell is not None else ""


def scale_groups(report: Report) -> Mapping[str, str]:
    """The scale group of each convolution that pruning could take from, by module name; empty without pruning."""
    groups: dict[str, str] = {}
    for pruning in report.prunings:
        for layer in pruning.layers:
            groups |= dict.fromkeys(layer.layers or (layer.name,), layer.group)
    return groups
