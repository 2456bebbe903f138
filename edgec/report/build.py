"""The report of a run, put together from the records of its stages, and written."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgec.core import events
from edgec.core.metric import Metric
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.artifact_id import DENSE, AnyArtifact, artifact_named
from edgec.core.results.export import ArtifactResult, ExportResult
from edgec.core.results.other import InputResult
from edgec.core.results.profile import ONNXRUNTIME, ProfileResult
from edgec.core.results.pruning import PruneResult
from edgec.core.results.quantization import QatResult, QuantizeResult
from edgec.core.results.stage import Cost, StageRecord
from edgec.core.results.training import SparsifyResult, Trained
from edgec.core.results.verdict import Verdict
from edgec.recipe import Recipe
from edgec.recipe.stages import STAGES
from edgec.report.drawn import StageSection
from edgec.report.model import (
    VERSION,
    Note,
    Pruning,
    Quantized,
    Report,
    RoundedStage,
    Side,
    SideLatency,
    StageRow,
)
from edgec.report.write import Image, write
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Task

MOST_NOTES = 40


@dataclass(frozen=True)
class Finished:
    """What a run hands to its report."""

    folder: Path
    recipe: Recipe
    task: Task
    records: Sequence[StageRecord]
    gates: Sequence[Verdict]
    shipped: str | None  # precision
    artifacts: Path  # the folder of the exported files
    dense: Network
    network: Network
    environment: Mapping[str, Any]
    command: str
    seconds: float
    device: str

    @property
    def profile(self) -> ProfileResult | None:
        """Of the last profile stage."""
        results = (r.result for r in reversed(self.records))
        return next((result for result in results if isinstance(result, ProfileResult)), None)

    @property
    def exported(self) -> Mapping[AnyArtifact, ArtifactResult]:
        """The artifacts of the last export stage."""
        for record in reversed(self.records):
            if isinstance(record.result, ExportResult):
                return record.result.artifacts
        return {}

    @property
    def name(self) -> str:
        """The artifact that is shipped; "" where nothing was exported."""
        return f"model.{self.shipped}" if self.shipped else ""


def write_report(run: Finished) -> None:
    """Write report.html, report.json and report.md into the run's folder."""
    write(run.folder, report_of(run), sections_of(run), pictures(run))


def report_of(run: Finished) -> Report:
    """Everything that the report of a run holds, but pictures."""
    profile, artifacts, split = run.profile, run.exported, run.recipe.gates.split
    headline = run.task.metrics[0]
    shipped = artifact_named(run.name) if run.name else None
    cells = profile.first.cells if profile is not None else ()
    results = [(record, record.result) for record in run.records]
    return Report(
        version=VERSION,
        recipe=run.recipe.name,
        task=run.recipe.task,
        metric=headline.name,
        metrics=tuple(run.task.metrics),
        split=split,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=run.seconds,
        seed=run.recipe.seed,
        command=run.command,
        environment={**run.environment, "device": run.device},
        data=run.task.digest(),
        network=run.network.digest,
        gates=tuple(run.gates),
        kept=all(gate.kept for gate in run.gates),
        shipped=run.shipped,
        dense=side(DENSE, artifacts, profile, dense_cost(run.records), headline.name, split),
        out=side(shipped, artifacts, profile, last_cost(run.records), headline.name, split),
        threads=tuple(sorted({c.threads for c in cells if c.runtime == ONNXRUNTIME})),
        stages=tuple(stage_row(record, headline, profile) for record in run.records),
        prunings=tuple(
            Pruning(stage=record.name, layers=result.layers, groups=result.groups)
            for record, result in results
            if isinstance(result, PruneResult)
        ),
        gamma=next((result.gamma for _, result in results if isinstance(result, SparsifyResult)), None),
        quantized=quantized(run.records),
        rounded=tuple(
            rounded(record, result)
            for record, result in results
            if isinstance(result, QuantizeResult | QatResult)
        ),
        artifacts=dict(artifacts),
        profile=profile,
        notes=tuple(notes(run.folder / "events.jsonl")),
    )


def stage_row(record: StageRecord, headline: Metric, profile: ProfileResult | None) -> StageRow:
    """A stage's row, with its flags."""
    result = record.result
    trained = result if isinstance(result, Trained) else None
    return StageRow(
        name=record.name,
        kind=record.kind,
        cached=record.cached,
        seconds=record.seconds,
        cost=record.cost,
        final=result.final,
        curves=trained and trained.curves,
        target=result.target if isinstance(result, PruneResult) else None,
        images_per_second=trained and trained.images_per_second,
        skipped_steps=trained and trained.skipped_steps,
        rollbacks=trained and trained.rollbacks,
        flags=tuple(result.flags(headline, profile)),
    )


def quantized(records: Sequence[StageRecord]) -> Quantized:
    """What the last quantize stage found, with the graph that the last QAT stage made of it, where there is one."""
    results = [record.result for record in reversed(records)]
    first = next((result for result in results if isinstance(result, QuantizeResult)), None)
    last = next((result for result in results if isinstance(result, QatResult)), first)
    graph = last.graph if last is not None else None
    return Quantized(
        sensitivity=first and first.sensitivity,
        fusion=graph and graph.fusion,
        drop=graph and graph.drop,
        weights=graph and graph.weights,
        equalised=first and first.equalised,
    )


def rounded(record: StageRecord, result: QuantizeResult | QatResult) -> RoundedStage:
    graph = result.graph
    return RoundedStage(
        stage=record.name,
        kind=record.kind,
        final=result.final,
        drop=graph.drop,
        weights=graph.weights,
        graph_bytes=graph.graph_bytes,
        graph_zipped_bytes=graph.graph_zipped_bytes,
    )


def sections_of(run: Finished) -> list[StageSection]:
    """What the stages have to show, in their order."""
    return [
        StageSection(record.name, section)
        for record in run.records
        for section in record.result.sections(run.task.metrics)
    ]


def dense_cost(records: Sequence[StageRecord]) -> Cost | None:
    """The cost before the first stage that compresses."""
    cost: Cost | None = None
    for record in records:
        if record.kind != InputResult.kind and STAGES.row(record.kind).compresses:
            break
        cost = record.cost or cost
    return cost


def last_cost(records: Sequence[StageRecord]) -> Cost | None:
    return next((record.cost for record in reversed(records) if record.cost is not None), None)


def side(
    artifact: AnyArtifact | None,
    exported: Mapping[AnyArtifact, ArtifactResult],
    profile: ProfileResult | None,
    cost: Cost | None,
    metric: str,
    split: str,
) -> Side:
    """What there is to say of one artifact, dense or shipped; None: there is none."""
    costs = {} if cost is None else cost.model_dump()
    if artifact is None:
        return Side(artifact="", **costs)
    entry = exported.get(artifact)
    accuracy = entry.on(split) if entry is not None else None
    latency: dict[str, SideLatency] = {}
    for threads in profile.first.thread_counts if profile is not None else ():
        cell = profile.first.latency_of(artifact, threads=threads) if profile is not None else None
        if cell is not None:
            latency[str(threads)] = SideLatency(
                median_ms=cell.median_ms,
                ci_low_ms=cell.ci_low_ms,
                ci_high_ms=cell.ci_high_ms,
                p90_ms=cell.p90_ms,
                p99_ms=cell.p99_ms,
            )
    return Side(
        **costs,
        artifact=artifact.name,
        bytes=entry.bytes if entry is not None else None,
        val=entry.val if entry is not None else None,
        test=entry.test if entry is not None else None,
        metric=accuracy.get(metric) if accuracy is not None else None,
        latency=latency,
        speedup=profile.first.speedup_of(artifact) if profile is not None else None,
    )


def notes(path: Path) -> list[Note]:
    """Warnings of the last start of the run, each once."""
    levels: dict[str, str] = {}
    if not path.exists():
        return []
    for event in events.read(path):
        if event.get("kind") == "run_started":
            levels.clear()
        if event.get("kind") == "note" and event.get("level") != "info":
            levels[str(event["message"])] = str(event["level"])
    listed = [Note(level=level, message=message) for message, level in levels.items()]
    if len(listed) > MOST_NOTES:
        rest = Note(level="info", message=f"and {len(listed) - MOST_NOTES} more, in events.jsonl")
        listed = [*listed[:MOST_NOTES], rest]
    return listed


def pictures(run: Finished) -> list[Image]:
    """What the dense network makes of images beside what the shipped artifact makes of them."""
    from edgec.runtimes.artifact import predictor

    if run.recipe.pictures == 0:
        return []
    sides: dict[str, Predictor] = {"dense, torch": torch_predictor(run.dense.build(), run.task, run.device)}
    shipped = run.artifacts / f"{run.name}.onnx"
    if run.name and shipped.is_file():
        sides[f"{run.shipped}, onnxruntime"] = predictor(shipped)
    else:
        sides["compressed, torch"] = torch_predictor(run.network.build(), run.task, run.device)
    return [
        Image(picture.caption, picture.mime, base64.b64encode(picture.data).decode())
        for picture in run.task.pictures(sides, run.recipe.pictures)
    ]
