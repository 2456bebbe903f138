"""The base of every stage's result, and the record that the pipeline keeps of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import JsonValue

from edgec.core.frozen import Frozen
from edgec.core.metric import Metric
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.table import Section

if TYPE_CHECKING:
    from edgec.core.results.profile import ProfileResult


class Cost(Frozen):
    """`macs` and `padded_macs` are for one input of the example's size, convolutions and linear layers."""

    params: int
    macs: int
    padded_macs: int


class StageResult(Frozen):
    """What a stage measured. Each kind of stage has its own subclass; its JSON is `metrics.json` of the run's folder.

    `final` is the accuracy on the validation split of the network that came out; None where the stage does not evaluate.
    """

    kind: ClassVar[str]
    final: Accuracy | None = None

    def flags(self, metric: Metric, profile: ProfileResult | None) -> Sequence[str]:
        """What a person should look at: broken targets, skipped steps, artifacts of this stage that are slower."""
        return ()

    def sections(self, metrics: Sequence[Metric]) -> Sequence[Section]:
        """What the report shows of this stage, beside its row in the table of stages."""
        return ()


@dataclass(frozen=True)
class StageRecord:
    """One stage of a run: its result, with what the pipeline adds."""

    name: str
    kind: str
    result: StageResult
    cached: bool = False
    seconds: float | None = None
    cost: Cost | None = None

    def stored(self) -> dict[str, JsonValue]:
        """The record as the store keeps it: the result's own keys beside "kind", "seconds" and "cost"."""
        tree: dict[str, JsonValue] = {"kind": self.kind, **self.result.model_dump(mode="json")}
        if self.seconds is not None:
            tree["seconds"] = self.seconds
        if self.cost is not None:
            tree["cost"] = self.cost.model_dump(mode="json")
        return tree

    def to_json(self) -> dict[str, JsonValue]:
        """`metrics.json` of the run's folder: what the store keeps, and whether it was taken from there."""
        return {"kind": self.kind, "cached": self.cached, **self.stored()}
