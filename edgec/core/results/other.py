"""Results of what does not compress: the network that went in, and stages of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import JsonValue, model_serializer

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

    @classmethod
    def of(cls, metrics: Mapping[str, JsonValue]) -> CustomResult:
        """The result of what the function gave; its "final", where it has one, is the accuracy.

        Raises pydantic's ValidationError for what is not JSON, or an accuracy that is not numbers by name.
        """
        return cls.model_validate({"metrics": metrics, "final": metrics.get("final")})

    @model_serializer
    def _to_flat(self) -> dict[str, JsonValue]:
        return dict(self.metrics)
