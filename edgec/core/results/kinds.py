"""The result type of every kind of stage."""

from __future__ import annotations

from typing import Any

from edgec.core.results.export import ExportResult
from edgec.core.results.other import CustomResult, InputResult
from edgec.core.results.profile import ProfileResult
from edgec.core.results.pruning import DecomposeResult, PruneResult
from edgec.core.results.quantization import QatResult, QuantizeResult
from edgec.core.results.stage import StageResult
from edgec.core.results.training import DistillResult, SparsifyResult, TrainResult

RESULTS: dict[str, type[StageResult]] = {
    result.kind: result
    for result in (
        InputResult, TrainResult, SparsifyResult, PruneResult, DecomposeResult, DistillResult, QuantizeResult, QatResult,
        ExportResult, ProfileResult, CustomResult,
    )
}  # fmt: skip


def result_of_json(kind: str, stored: dict[str, Any]) -> StageResult:
    """A stage's result from its JSON. A kind that is not known is read as a stage of the user's own."""
    result = RESULTS.get(kind, CustomResult)
    return CustomResult.of(stored) if result is CustomResult else result.model_validate(stored)
