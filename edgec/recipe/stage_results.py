"""Reading what stages measured: the type of each result stands in the table of stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from edgec.core.errors import ExtensionError
from edgec.core.results.other import CustomResult, InputResult
from edgec.core.results.stage import Cost, StageRecord, StageResult
from edgec.core.table import dotted
from edgec.recipe.stages import STAGES


def result_type(kind: str) -> type[StageResult]:
    """The result of a kind of stage, and of the network that went in. A kind that is not known, or whose package cannot
    be used any more, is read as a stage of the user's own.
    """
    if kind == InputResult.kind:
        return InputResult
    try:
        row = STAGES.find(kind)
    except ExtensionError:
        row = None
    return CustomResult if row is None else cast("type[StageResult]", dotted(row.result))


def result_of_json(kind: str, stored: Mapping[str, JsonValue]) -> StageResult:
    """A stage's result from its JSON, as the type of its kind."""
    result = result_type(kind)
    return CustomResult.of(stored) if result is CustomResult else result.model_validate(stored)


def record_of_json(name: str, stored: Mapping[str, JsonValue]) -> StageRecord:
    """A stage's record from its `metrics.json`, see `StageRecord.to_json`."""
    own = dict(stored)
    kind, cached, seconds = str(own.pop("kind")), bool(own.pop("cached", False)), own.pop("seconds", None)
    cost = own.pop("cost", None)
    return StageRecord(
        name=name,
        kind=kind,
        result=result_of_json(kind, own),
        cached=cached,
        seconds=seconds if isinstance(seconds, int | float) else None,
        cost=None if cost is None else Cost.model_validate(cost),
    )
