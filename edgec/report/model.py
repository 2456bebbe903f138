"""The report of a run as it is stored: report.json."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from edgec.core.frozen import Frozen
from edgec.core.metric import Metric
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import ArtifactField
from edgec.core.results.export import ArtifactResult
from edgec.core.results.fusion import Fusion
from edgec.core.results.profile import ProfileResult, Speedup
from edgec.core.results.pruning import GroupPruned, LayerPruned, Target
from edgec.core.results.quantization import Equalized, LayerSensitivity, LayerWeights
from edgec.core.results.stage import Cost
from edgec.core.results.training import ChannelSizes, Epoch
from edgec.core.results.verdict import Verdict

VERSION = 1

# JSON has an empty object where nothing was profiled.
_Profile = Annotated[
    ProfileResult | None,
    BeforeValidator(lambda given: given or None),
    PlainSerializer(
        lambda p: {} if p is None else p.model_dump(mode="json"), return_type=dict[str, JsonValue]
    ),
]


class Sparse(Frozen):
    """A record whose JSON leaves out what it does not have; further keys are kept as they are."""

    model_config = ConfigDict(extra="allow")

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class SideLatency(Frozen):
    """Of an artifact in onnxruntime on the first device, with batch 1."""

    median_ms: float
    ci_low_ms: float
    ci_high_ms: float
    p90_ms: float | None
    p99_ms: float | None


class Side(Frozen):
    """One of the two artifacts that a run is about: what went in, dense, or what came out."""

    params: int | None = None
    macs: int | None = None
    padded_macs: int | None = None
    artifact: str  # "": there is none
    bytes: int | None = None
    val: Accuracy | None = None
    test: Accuracy | None = None
    metric: float | None = None  # the headline metric on the split of the gates
    latency: dict[str, SideLatency] = Field(default_factory=dict[str, SideLatency])  # by threads
    speedup: Speedup | None = None  # against dense fp32, 1 thread

    def accuracy(self, split: str) -> Accuracy | None:
        return self.test if split == "test" else self.val


class StageRow(Sparse):
    """One stage, with what training reports and the target of pruning; the rest stands under other keys of the report."""

    name: str
    kind: str
    cached: bool = False
    seconds: float | None = None
    cost: Cost | None = None
    final: Accuracy | None = None
    curves: tuple[Epoch, ...] | None = None
    target: Target | None = None
    images_per_second: float | None = None
    skipped_steps: int | None = None
    rollbacks: int | None = None
    flags: tuple[str, ...] = ()


class Pruning(Frozen):
    """What a prune stage took, by dependency group and by scale group."""

    stage: str
    layers: tuple[LayerPruned, ...]
    groups: tuple[GroupPruned, ...]


class Quantized(Sparse):
    """The network with integers, as the last stage left it that quantized it."""

    sensitivity: tuple[LayerSensitivity, ...] | None = None
    fusion: Fusion | None = None
    drop: float | None = None  # of the headline metric, against float
    weights: tuple[LayerWeights, ...] | None = None
    equalised: Equalized | None = None


class RoundedStage(Frozen):
    """A stage that gave the network integers: after training (quantize), or by QAT (qad)."""

    stage: str
    kind: str
    final: Accuracy | None
    drop: float
    weights: tuple[LayerWeights, ...]
    graph_bytes: int
    graph_zipped_bytes: int


class Note(Frozen):
    level: str
    message: str


class Report(Frozen):
    """Everything that a report shows, but pictures. Reports before `version` have the same keys."""

    model_config = ConfigDict(extra="allow")

    version: int = VERSION
    recipe: str
    task: str
    metric: str
    metrics: tuple[Metric, ...] = Field(min_length=1)
    split: str  # of the gates
    date: str
    seconds: float
    seed: int
    command: str
    environment: dict[str, JsonValue]
    data: str  # digest
    network: str  # digest
    gates: tuple[Verdict, ...]
    kept: bool
    shipped: str | None  # precision
    dense: Side
    out: Side
    threads: tuple[int, ...]
    stages: tuple[StageRow, ...]
    prunings: tuple[Pruning, ...]
    gamma: ChannelSizes | None
    quantized: Quantized
    rounded: tuple[RoundedStage, ...]
    artifacts: dict[ArtifactField, ArtifactResult]
    profile: _Profile
    notes: tuple[Note, ...]

    @property
    def headline(self) -> Metric:
        return self.metrics[0]

    @property
    def tested(self) -> bool:
        """Whether artifacts were measured on a test split."""
        return any(artifact.test is not None for artifact in self.artifacts.values())
