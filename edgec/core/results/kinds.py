"""The result type of every kind of stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from edgec.core.errors import ExtensionError
from edgec.core.extensions import extension
from edgec.core.results.export import ExportResult
from edgec.core.results.other import CustomResult, InputResult
from edgec.core.results.profile import ProfileResult
from edgec.core.results.pruning import DecomposeResult, PruneResult
from edgec.core.results.quantization import QatResult, QuantizeResult
from edgec.core.results.stage import Cost, StageRecord, StageResult
from edgec.core.results.training import DistillResult, SparsifyResult, TrainResult
from edgec.core.stage_spec import StageSpec
from edgec.core.table import dotted

RESULTS: dict[str, type[StageResult]] = {
    result.kind: result
    for result in (
        InputResult, TrainResult, SparsifyResult, PruneResult, DecomposeResult, DistillResult, QuantizeResult, QatResult,
        ExportResult, ProfileResult, CustomResult,
    )
}  # fmt: skip


def result_of_json(kind: str, stored: dict[str, Any]) -> StageResult:
    """A stage's result from its JSON; of a package's stage, as its row says. A kind that is not known, or whose package
    cannot be used any more, is read as a stage of the user's own.
    """
    result = RESULTS.get(kind) or _of_package(kind)
    return CustomResult.of(stored) if result is CustomResult else result.model_validate(stored)


def _of_package(kind: str) -> type[StageResult]:
    try:
        row = extension("edgec.stages", kind)
    except ExtensionError:
        return CustomResult
    return cast("type[StageResult]", dotted(row.result)) if isinstance(row, StageSpec) else CustomResult


def record_of_json(name: str, stored: Mapping[str, Any]) -> StageRecord:
    """A stage's record from its `metrics.json`, see `StageRecord.to_json`."""
    own = dict(stored)
    kind, cached, seconds = str(own.pop("kind")), bool(own.pop("cached", False)), own.pop("seconds", None)
    cost = own.pop("cost", None)
    return StageRecord(
        name=name,
        kind=kind,
        result=result_of_json(kind, own),
        cached=cached,
        seconds=seconds,
        cost=None if cost is None else Cost.model_validate(cost),
    )
