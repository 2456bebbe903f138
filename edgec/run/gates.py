"""Gates: the promises of the recipe, checked on what was measured on the artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgec.core.metric import Metric
from edgec.core.results.artifact_id import DENSE, ArtifactId
from edgec.core.results.export import ExportResult
from edgec.core.results.profile import ONNXRUNTIME, ProfileResult
from edgec.core.results.verdict import Verdict
from edgec.recipe import Gates

THREADS = 1  # that promises of speed are about


@dataclass(frozen=True)
class _Promise:
    text: str
    limit: float | None  # None: not promised
    measured: float | None
    at_most: bool
    remedy: str  # where it is broken
    missing: str  # what to do where nothing was measured

    def verdict(self, limit: float) -> Verdict:
        m = self.measured
        kept = m is not None and (m <= limit if self.at_most else m >= limit)
        reason = "" if kept else self.remedy if m is not None else f"not measured: {self.missing}"
        return Verdict(promise=self.text, limit=float(limit), measured=m, kept=kept, remedy=reason)


def shipped_artifact(gates: Gates, exported: ExportResult | None) -> ArtifactId | None:
    """The artifact that the gates speak of: of the named precision, or the smallest that was exported."""
    if gates.artifact is not None:
        return ArtifactId("model", gates.artifact)
    return None if exported is None else exported.smallest


def check_gates(
    gates: Gates, metric: Metric, exported: ExportResult | None, profile: ProfileResult | None, params: int
) -> list[Verdict]:
    """Every promise of `gates` with its verdict. A promise about something that was not measured is broken, not skipped."""
    shipped = shipped_artifact(gates, exported)
    name = "model.None" if shipped is None else shipped.name
    written = None if exported is None or shipped is None else exported.of(shipped)
    dense = None if exported is None else exported.of(DENSE)
    reached = None if written is None else _on(written.on(gates.split), metric)
    before = None if dense is None else _on(dense.on(gates.split), metric)
    cell = None if profile is None or shipped is None else profile.first.latency_of(shipped, threads=THREADS)
    ratio = None if profile is None or shipped is None else profile.first.speedup_of(shipped, threads=THREADS)
    on = f"{name} on {gates.split}" + (f" in {metric.unit}" if metric.unit else "")
    accuracy = _without_accuracy(gates, exported, shipped)
    speed = _without_speed(profile, shipped)
    promises = (
        _Promise(
            f"{metric.title} lost by {on}, at most", gates.max_drop,
            None if reached is None or before is None else before - reached, True,
            "train longer, prune less, keep layers in float", accuracy,
        ),
        _Promise(
            f"{metric.title} of {on}, at least", gates.min_metric, reached, False,
            "start from a better network", accuracy,
        ),
        _Promise(
            f"speed of {name} against dense fp32, 1 thread, at least", gates.min_speedup,
            None if ratio is None else ratio.ratio, False,
            "prune more, or by keep_padded_macs; see the operators in the report", speed,
        ),
        _Promise(
            f"latency of {name} with 1 thread in ms, at most", gates.max_latency_ms,
            None if cell is None else cell.median_ms, True, "prune more, or lower data.input", speed,
        ),
        _Promise(
            f"bytes of {name}, at most", gates.max_bytes, None if written is None else written.bytes, True,
            "prune more", accuracy,
        ),
        _Promise("parameters, at most", gates.max_params, params, True, "prune more", ""),
    )  # fmt: skip
    return [p.verdict(p.limit) for p in promises if p.limit is not None]


def _on(accuracy: Any, metric: Metric) -> float | None:
    return None if accuracy is None else accuracy.get(metric.name)


def _without_accuracy(gates: Gates, exported: ExportResult | None, shipped: ArtifactId | None) -> str:
    """What to do where an artifact was not measured."""
    if exported is None:
        return "add an export stage"
    if shipped is None or exported.of(shipped) is None:
        names = ", ".join(str(a) for a in exported.artifacts)
        return f"{shipped} was not exported, only {names}; add {gates.artifact} to export.precisions"
    if exported.of(DENSE) is None:
        return "the dense network was not exported; set export.dense: true, and compress it in a stage"
    return f"no accuracy was measured on {gates.split}; add data.{gates.split}"


def _without_speed(profile: ProfileResult | None, shipped: ArtifactId | None) -> str:
    """What to do where no latency with one thread in onnxruntime was measured."""
    if profile is None:
        return "add a profile stage after the export"
    measured = [c for c in profile.first.cells if c.artifact == shipped]
    if not measured:
        return f"{shipped} was not measured; export it, and see the failures in the report"
    ways = ", ".join(sorted({f"{c.runtime} with {c.threads} thread(s)" for c in measured}))
    return (
        f"gates compare {ONNXRUNTIME} with {THREADS} thread, but {shipped} was measured in {ways}; "
        f"add {THREADS} to profile.threads"
    )
