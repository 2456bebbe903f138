"""The rows of edgec's tables, and the configs that recipes write. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from edgec.core.contract.base import Contract, ImageInput
from edgec.core.frozen import Frozen
from edgec.core.metric import Metric
from edgec.core.results.profile import ProfileResult
from edgec.core.results.stage import StageResult
from edgec.core.results.table import Section, Table
from edgec.core.runtimes import RuntimeSpec
from edgec.core.stage_spec import StageConfig, StageSpec
from edgec.distillers.distiller import DistillationBatch, DistillerSpec, Losses, each_tap
from edgec.distillers.term import TappedTerm
from edgec.recipe.data import DataSpec
from edgec.recipe.tasks import TaskSpec

if TYPE_CHECKING:
    pass


class BrightnessContract(Contract, frozen=True):
    task: Literal["brightness"] = "brightness"
    input: ImageInput


class NoiseData(Frozen):
    """Images drawn from a seed."""

    format: Literal["noise"]
    images: PositiveInt = 8


class Nudge(StageConfig):
    """Adds a number to every bias."""

    kind: Literal["nudge"] = "nudge"
    by: float


class NudgeResult(StageResult):
    kind: ClassVar[str] = "nudge"
    nudged: int

    def flags(self, metric: Metric, profile: ProfileResult | None) -> Sequence[str]:
        return [f"{self.nudged} biases nudged"]

    def sections(self, metrics: Sequence[Metric]) -> Sequence[Section]:
        return [Section("Nudges", [Table("Nudged parameters", ["of", "count"], [["biases", self.nudged]])])]


class Difference(TappedTerm):
    kind: Literal["difference"]
    power: float = 1.0


def terms(term: Difference, batch: DistillationBatch) -> Losses:
    return each_tap(batch, lambda student, teacher: (student - teacher).abs().pow(term.power).mean())


BRIGHTNESS = TaskSpec(
    "brightness", "toy_edgec.task:brightness_of", BrightnessContract, starter="toy_edgec.found:starter"
)
NOISE = DataSpec("noise", NoiseData, "brightness", find="toy_edgec.found:find_noise", layout="noise.txt")
NUDGE = StageSpec(
    "nudge",
    Nudge,
    "toy_edgec.stage:nudge",
    "toy_edgec.rows:NudgeResult",
    plan="toy_edgec.stage:plan",
    reshapes=False,
)
DIFFERENCE = DistillerSpec("difference", Difference, terms)
COPIED = RuntimeSpec(
    "copied",
    modules=("onnxruntime",),
    distributions=(("toy-edgec", "artifacts, copied"),),
    converts="toy_edgec.runtime:convert",
    opener="toy_edgec.session:open_model",
)
