"""The table of stages, and the union of their configs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from edgec.core.stage_spec import StageConfig, StageSpec
from edgec.core.table import Table
from edgec.recipe.compression import Decompose, Prune, Quantize
from edgec.recipe.delivery import Export, Profile
from edgec.recipe.knowledge import Distill, QuantizationAware
from edgec.recipe.training import Sparsify, Train
from edgec.recipe.union import OfPackages


class Custom(StageConfig):
    """The user's own stage: `package.module:function`, behind --allow-code."""

    kind: Literal["custom"]
    function: str = Field(
        description="`package.module:function`; takes (config, network, env), returns the network and metrics."
    )
    options: dict[str, JsonValue] = Field(
        default={}, description="Options of the function, which reads them from `config.options`."
    )

    def modules(self) -> tuple[str, ...]:
        return (self.function.partition(":")[0],)

    def details(self) -> str:
        return f" {self.function}"


RESULTS = "edgec.core.results"
STAGES = Table(
    "stage",
    "edgec.stages",
    StageSpec,
    (
        StageSpec(
            "train", Train, "edgec.stages.train:train", f"{RESULTS}.training:TrainResult",
            trains=True, compresses=False, reshapes=False,
        ),
        StageSpec(
            "sparsify", Sparsify, "edgec.stages.sparsify:sparsify", f"{RESULTS}.training:SparsifyResult",
            trains=True, reshapes=False,
        ),
        StageSpec(
            "prune", Prune, "edgec.stages.prune:prune", f"{RESULTS}.pruning:PruneResult", "edgec.stages.prune:plan",
        ),
        StageSpec(
            "decompose", Decompose, "edgec.stages.decompose:decompose", f"{RESULTS}.pruning:DecomposeResult",
            "edgec.stages.decompose:plan",
        ),
        StageSpec(
            "distill", Distill, "edgec.stages.distill:distill", f"{RESULTS}.training:DistillResult",
            trains=True, reshapes=False,
        ),
        StageSpec(
            "quantize", Quantize, "edgec.stages.quantize:quantize", f"{RESULTS}.quantization:QuantizeResult",
            dense=True, reshapes=False,
        ),
        StageSpec(
            "qad", QuantizationAware, "edgec.stages.qad:qad", f"{RESULTS}.quantization:QatResult",
            trains=True, dense=True, reshapes=False,
        ),
        StageSpec(
            "export", Export, "edgec.stages.export:export", f"{RESULTS}.export:ExportResult",
            dense=True, reshapes=False, gives="artifacts",
        ),
        StageSpec(
            "profile", Profile, "edgec.stages.profile:profile", f"{RESULTS}.profile:ProfileResult",
            cached=False, reshapes=False, reads_artifacts=True, gives="packages",
        ),
        StageSpec("custom", Custom, "edgec.stages.custom:custom"),
    ),
)  # fmt: skip

Stage = Annotated[
    Train | Sparsify | Prune | Decompose | Distill | Quantize | QuantizationAware | Export | Profile | Custom,
    Field(discriminator="kind"),
    OfPackages(STAGES, "kind", lambda row: row.config),
]
