"""What a run came to, gathered from the stages' figures for the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgec.core import events
from edgec.core.metric import Metric
from edgec.core.network import Network
from edgec.core.predictor import Predictor
from edgec.recipe import Recipe
from edgec.report.write import write
from edgec.tasks.predictor import torch_predictor
from edgec.tasks.protocol import Task

Stages = Mapping[str, Mapping[str, Any]]
ROUNDED = ("final", "drop", "weights", "graph_bytes", "graph_zipped_bytes")


def build_report(
    folder: Path,
    *,
    recipe: Recipe,
    task: Task,
    stages: Stages,
    gates: Sequence[Mapping[str, Any]],
    shipped: str | None,
    artifacts: Path,
    dense: Network,
    network: Network,
    environment: Mapping[str, Any],
    command: str,
    seconds: float,
    device: str,
) -> None:
    """Write report.html, report.json and report.md into a run's folder."""
    exported = last_of(stages, "export")
    profile = last_of(stages, "profile")
    files: Mapping[str, Any] = exported.get("artifacts", {})
    name = f"model.{shipped}" if shipped else ""
    split = recipe.gates.split
    data = {
        "recipe": recipe.name,
        "task": recipe.task,
        "metric": task.metric,
        "metrics": [asdict(metric) for metric in task.metrics],
        "split": split,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": seconds,
        "seed": recipe.seed,
        "command": command,
        "environment": {**environment, "device": device},
        "data": task.digest(),
        "network": network.digest,
        "gates": list(gates),
        "kept": all(g["kept"] for g in gates),
        "shipped": shipped,
        "dense": side("dense.fp32", files, profile, _dense_cost(stages), task.metric, split),
        "out": side(name, files, profile, _last_cost(stages), task.metric, split),
        "threads": sorted({c["threads"] for c in profile.get("cells", []) if c["runtime"] == "onnxruntime"}),
        "stages": [
            {"name": n, **_slim(m), "flags": flags(m, stages, profile, task.metrics[0])}
            for n, m in stages.items()
        ],
        "prunings": [
            {"stage": n, "layers": m["layers"], "groups": m["groups"]}
            for n, m in stages.items()
            if m["kind"] == "prune"
        ],
        "gamma": next((m["gamma"] for m in stages.values() if "gamma" in m), None),
        "quantized": {
            k: m[k]
            for m in (last_of(stages, "quantize"), last_of(stages, "qad"))  # the later tells what it changed
            for k in ("sensitivity", "fusion", "drop", "weights", "equalised")
            if k in m
        },
        "rounded": [  # after training, and trained with the rounding
            {"stage": n, "kind": m["kind"], **{k: m[k] for k in ROUNDED if k in m}}
            for n, m in stages.items()
            if m["kind"] in ("quantize", "qad")
        ],
        "artifacts": files,
        "profile": {k: v for k, v in profile.items() if k not in ("kind", "cached", "cost", "seconds")},
        "notes": notes(folder / "events.jsonl"),
    }
    write(folder, data, pictures(task, recipe.pictures, dense, network, artifacts, name, device))


def last_of(stages: Stages, kind: str) -> Mapping[str, Any]:
    """The figures of the last stage of a kind; empty when none ran."""
    return next((m for m in reversed(list(stages.values())) if m["kind"] == kind), {})


def _slim(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's figures without those that stand elsewhere in the report."""
    kept = (
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
    return {k: metrics[k] for k in kept if k in metrics}


def _dense_cost(stages: Stages) -> Mapping[str, Any]:
    """The cost before the first stage that compresses."""
    cost: Mapping[str, Any] = {}
    for metrics in stages.values():
        if metrics["kind"] not in ("input", "train"):
            break
        cost = metrics.get("cost", cost)
    return cost


def _last_cost(stages: Stages) -> Mapping[str, Any]:
    return next((m["cost"] for m in reversed(list(stages.values())) if "cost" in m), {})


def side(
    name: str,
    files: Mapping[str, Any],
    profile: Mapping[str, Any],
    cost: Mapping[str, Any],
    metric: str,
    split: str,
) -> dict[str, Any]:
    """What there is to say of one artifact, dense or shipped."""
    entry: Mapping[str, Any] = files.get(name, {})
    cells = [
        c
        for c in profile.get("cells", [])
        if (c["artifact"], c["runtime"], c.get("batch", 1)) == (name, "onnxruntime", 1)
    ]
    speedups = [
        s
        for s in profile.get("speedups", [])
        if s["artifact"] == name
        and s["against"] == "dense.fp32"
        and s["threads"] == 1
        and s["runtime"] == "onnxruntime"
    ]
    return {
        **cost,
        "artifact": name,
        "bytes": entry.get("bytes"),
        "val": entry.get("val"),
        "test": entry.get("test"),
        "metric": (entry.get(split) or {}).get(metric),
        "latency": {
            str(c["threads"]): {k: c[k] for k in ("median_ms", "ci_low_ms", "ci_high_ms", "p90_ms", "p99_ms")}
            for c in cells
        },
        "speedup": speedups[0] if speedups else None,
    }


def flags(
    metrics: Mapping[str, Any], stages: Stages, profile: Mapping[str, Any], headline: Metric
) -> list[str]:
    """What a person should look at in a stage: slower artifacts, broken targets, skipped steps."""
    found: list[str] = []
    if metrics.get("skipped_steps"):
        found.append(f"{metrics['skipped_steps']} steps skipped, {metrics['rollbacks']} rollbacks")
    if metrics.get("max_drop_kept") is False:
        lost = f"{metrics['drop']:.{headline.digits}f} {headline.unit}".rstrip()
        found.append(f"int8 loses {lost} of {headline.title}, more than max_drop")
    left = [f for f in (metrics.get("fusion") or {}).get("left_float", []) if f.get("cause") == "not_fused"]
    if left:
        found.append(f"{len(left)} convolutions stay in float though int8 was asked")
    made_by = {
        "prune": [("model.fp32", "dense.fp32")],
        "quantize": [("model.int8", "model.fp32"), ("model.int8", "dense.fp32")],
        "qad": [("model.codebook", "model.int8")],
    }
    for artifact, against in made_by.get(metrics["kind"], []):
        for s in profile.get("slower", []):
            if (s["artifact"], s["against"], s["runtime"]) == (artifact, against, "onnxruntime"):
                names = ", ".join(o["name"] or o["type"] for o in s.get("operators", [])[:3])
                told = f"slows {artifact} to {s['ratio']:.2f} x {against} with {s['threads']} thread(s)"
                found.append(f"{told}: {names}" if names else told)
    return found


def notes(path: Path) -> list[dict[str, str]]:
    """Warnings of the last start of the run, each once."""
    found: dict[str, dict[str, str]] = {}
    if not path.exists():
        return []
    for event in events.read(path):
        if event.get("kind") == "run_started":
            found.clear()
        if event.get("kind") == "note" and event.get("level") != "info":
            found[event["message"]] = {"level": event["level"], "message": event["message"]}
    listed = list(found.values())
    if len(listed) > 40:
        listed = [*listed[:40], {"level": "info", "message": f"and {len(listed) - 40} more, in events.jsonl"}]
    return listed


def pictures(
    task: Task, count: int, dense: Network, network: Network, artifacts: Path, name: str, device: str
) -> list[dict[str, str]]:
    """What the dense network makes of images beside what the shipped artifact makes of them."""
    from edgec.runtimes.artifact import predictor

    if count == 0:
        return []
    sides: dict[str, Predictor] = {"dense, torch": torch_predictor(dense.build(), task, device)}
    shipped = artifacts / f"{name}.onnx"
    if name and shipped.is_file():
        sides[f"{name.removeprefix('model.')}, onnxruntime"] = predictor(shipped)
    else:
        sides["compressed, torch"] = torch_predictor(network.build(), task, device)
    return [
        {"caption": p.caption, "mime": p.mime, "base64": base64.b64encode(p.data).decode()}
        for p in task.pictures(sides, count)
    ]
