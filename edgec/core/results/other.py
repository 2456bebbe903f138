"""Results of what is no compression: the network that went in, and stages of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import JsonValue, model_serializer, model_validator

from edgec.core.frozen import json_object
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.stage import StageResult


class InputResult(StageResult):
    """What went in. `final` is empty for a network that was not trained yet."""

    kind: ClassVar[str] = "input"
    final: Accuracy | None = Accuracy()


class CustomResult(StageResult):
    """A stage of the user's own: `metrics` is what its function gave beside the network, any JSON."""

    kind: ClassVar[str] = "custom"
    metrics: Mapping[str, JsonValue]

    @model_validator(mode="before")
    @classmethod
    def _of_flat(cls, given: Any) -> Any:
        stored = json_object(given)
        if stored is None or set(stored) <= {"final", "metrics"}:
            return given
        return {"metrics": stored, "final": stored.get("final")}

    @model_serializer
    def _to_flat(self) -> dict[str, JsonValue]:
        return dict(self.metrics)
