"""Gates: the promises of the recipe, checked on what was measured on the artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgec.core.metric import Metric
from edgec.recipe import Gates

SMALLEST_FIRST = ("codebook", "int8", "fp16", "fp32")


@dataclass(frozen=True)
class Verdict:
    """One promise, what was measured, and whether it was kept. `measured` None: nothing was measured."""

    promise: str
    limit: float
    measured: float | None
    kept: bool
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def shipped_precision(gates: Gates, artifacts: Mapping[str, Any]) -> str | None:
    """The precision that the gates speak of: the named one, or the smallest that was exported."""
    there = {a["precision"] for name, a in artifacts.items() if name.startswith("model.")}
    if gates.artifact is not None:
        return gates.artifact
    return next((p for p in SMALLEST_FIRST if p in there), None)


def check(
    gates: Gates, metric: Metric, artifacts: Mapping[str, Any], profile: Mapping[str, Any], params: int
) -> list[Verdict]:
    """Every promise of `gates` with its verdict.

    `artifacts` are the export stage's figures by artifact name, `profile` the profile stage's. A promise about
    something that was not measured is broken, not skipped.
    """
    precision = shipped_precision(gates, artifacts)
    name = f"model.{precision}"
    shipped: Mapping[str, Any] = artifacts.get(name, {})
    dense: Mapping[str, Any] = artifacts.get("dense.fp32", {})
    reached = _metric(shipped, gates.split, metric.name)
    before = _metric(dense, gates.split, metric.name)
    drop = None if reached is None or before is None else before - reached
    cell = next(
        (
            c
            for c in profile.get("cells", [])
            if c["artifact"] == name and c["runtime"] == "onnxruntime" and c["threads"] == 1
        ),
        None,
    )
    ratio = next(
        (
            s["ratio"]
            for s in profile.get("speedups", [])
            if s["artifact"] == name
            and s["against"] == "dense.fp32"
            and s["threads"] == 1
            and s["runtime"] == "onnxruntime"
        ),
        None,
    )
    on = f"{name} on {gates.split}" + (f" in {metric.unit}" if metric.unit else "")
    rows: list[tuple[str, float | None, float | None, bool, str]] = [
        (
            f"{metric.title} lost by {on}, at most",
            gates.max_drop,
            drop,
            True,
            "train longer, prune less, keep layers in float",
        ),
        (
            f"{metric.title} of {on}, at least",
            gates.min_metric,
            reached,
            False,
            "start from a better network",
        ),
        (
            f"speed of {name} against dense fp32, 1 thread, at least",
            gates.min_speedup,
            ratio,
            False,
            "prune more, or by keep_padded_macs; see the operators in the report",
        ),
        (
            f"latency of {name} with 1 thread in ms, at most",
            gates.max_latency_ms,
            cell["median_ms"] if cell else None,
            True,
            "prune more, or lower data.input",
        ),
        (f"bytes of {name}, at most", gates.max_bytes, shipped.get("bytes"), True, "prune more"),
        ("parameters, at most", gates.max_params, params, True, "prune more"),
    ]
    verdicts: list[Verdict] = []
    for promise, limit, measured, at_most, remedy in rows:
        if limit is None:
            continue
        kept = measured is not None and (measured <= limit if at_most else measured >= limit)
        reason = (
            ""
            if kept
            else (remedy if measured is not None else "not measured: add the export and profile stages")
        )
        verdicts.append(Verdict(promise, float(limit), measured, kept, reason))
    return verdicts


def _metric(artifact: Mapping[str, Any], split: str, metric: str) -> float | None:
    return (artifact.get(split) or {}).get(metric)
