"""The report of a run, put together from the records of its stages, and written."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgec.core import events
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.core.results.artifact_id import DENSE, AnyArtifact, artifact_named
from edgec.core.results.profile import ProfileResult
from edgec.core.results.stage import Cost, StageRecord
from edgec.core.results.table import Section
from edgec.recipe import Recipe
from edgec.report.finite import finite
from edgec.report.model import ExportedArtifact, Gate, Note, Report, Side, SideLatency
from edgec.report.write import Image, write
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Task

# of a stage's figures: those that stand in its row, those of a rounded network, and those of one that was quantized
IN_ROW = (
    "kind",
    "cached",
    "seconds",
    "cost",
    "final",
    "curves",
    "target",
    "images_per_second",
    "skipped_steps",
    "rollbacks",
)
ROUNDED = ("final", "drop", "weights", "graph_bytes", "graph_zipped_bytes")
QUANTIZED = ("sensitivity", "fusion", "drop", "weights", "equalised")
MOST_NOTES = 40


@dataclass(frozen=True)
class Finished:
    """What a run hands to its report."""

    folder: Path
    recipe: Recipe
    task: Task
    records: Sequence[StageRecord]
    gates: Sequence[Gate]
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
    def name(self) -> str:
        """The artifact that is shipped; "" where nothing was exported."""
        return f"model.{self.shipped}" if self.shipped else ""


def write_report(run: Finished) -> None:
    """Write report.html, report.json and report.md into the run's folder."""
    write(run.folder, report_of(run), sections_of(run), pictures(run))


def report_of(run: Finished) -> Report:
    """Everything that the report of a run holds, but pictures."""
    profile = run.profile
    split = run.recipe.gates.split
    stored = [(record, record.to_json()) for record in run.records]
    exported: Mapping[str, Any] = next(
        (tree["artifacts"] for record, tree in reversed(stored) if record.kind == "export"), {}
    )
    artifacts = {
        artifact_named(name): ExportedArtifact.model_validate(finite(entry))
        for name, entry in exported.items()
    }
    shipped = artifact_named(run.name) if run.name else None
    cells = profile.first.cells if profile is not None else ()
    parts = {
        "version": 1,
        "recipe": run.recipe.name,
        "task": run.recipe.task,
        "metric": run.task.metric,
        "metrics": run.task.metrics,
        "split": split,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": run.seconds,
        "seed": run.recipe.seed,
        "command": run.command,
        "environment": {**run.environment, "device": run.device},
        "data": run.task.digest(),
        "network": run.network.digest,
        "gates": tuple(run.gates),
        "kept": all(gate.kept for gate in run.gates),
        "shipped": run.shipped,
        "dense": side(DENSE, artifacts, profile, dense_cost(run.records), run.task.metric, split),
        "out": side(shipped, artifacts, profile, last_cost(run.records), run.task.metric, split),
        "threads": sorted({c.threads for c in cells if c.runtime == "onnxruntime"}),
        "stages": [
            {
                "name": record.name,
                **{key: tree[key] for key in IN_ROW if key in tree},
                "flags": record.result.flags(run.task.metrics[0], profile),
            }
            for record, tree in stored
        ],
        "prunings": [
            {"stage": record.name, "layers": tree["layers"], "groups": tree["groups"]}
            for record, tree in stored
            if record.kind == "prune"
        ],
        "gamma": next((tree["gamma"] for _, tree in stored if tree.get("gamma")), None),
        "quantized": {
            key: tree[key]
            for kind in ("quantize", "qad")  # the later says what it changed
            for tree in [tree for record, tree in stored if record.kind == kind][-1:]
            for key in QUANTIZED
            if tree.get(key) is not None
        },
        "rounded": [
            {
                "stage": record.name,
                "kind": record.kind,
                **{key: tree[key] for key in ROUNDED if tree.get(key) is not None},
            }
            for record, tree in stored
            if record.kind in ("quantize", "qad")
        ],
        "artifacts": artifacts,
        "profile": profile,
        "notes": notes(run.folder / "events.jsonl"),
    }
    return Report.model_validate(finite(parts))


def sections_of(run: Finished) -> list[Section]:
    """What the stages have to show, in their order."""
    return [section for record in run.records for section in record.result.sections(run.task.metrics)]


def dense_cost(records: Sequence[StageRecord]) -> Cost | None:
    """The cost before the first stage that compresses."""
    cost: Cost | None = None
    for record in records:
        if record.kind not in ("input", "train"):
            break
        cost = record.cost or cost
    return cost


def last_cost(records: Sequence[StageRecord]) -> Cost | None:
    return next((record.cost for record in reversed(records) if record.cost is not None), None)


def side(
    artifact: AnyArtifact | None,
    exported: Mapping[AnyArtifact, ExportedArtifact],
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
    accuracy = entry.accuracy(split) if entry is not None else None
    latency: dict[str, SideLatency] = {}
    for threads in profile.first.thread_counts if profile is not None else ():
        cell = profile.latency_of(artifact, threads=threads) if profile is not None else None
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
        speedup=profile.speedup_of(artifact) if profile is not None else None,
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
