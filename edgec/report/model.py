"""The report of a run as it is stored: report.json."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, PlainSerializer, model_serializer
from pydantic.functional_serializers import SerializerFunctionWrapHandler

from edgec.core.frozen import Frozen
from edgec.core.metric import Metric
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import ArtifactField
from edgec.core.results.fusion import Fusion
from edgec.core.results.profile import ProfileResult, Speedup
from edgec.core.results.stage import Cost

VERSION = 1
JsonObject = dict[str, JsonValue]

# JSON has an empty object where nothing was profiled.
_Profile = Annotated[
    ProfileResult | None,
    BeforeValidator(lambda given: given or None),
    PlainSerializer(lambda p: {} if p is None else p.model_dump(mode="json"), return_type=dict),
]


class Open(Frozen):
    """A record whose further keys are kept as they are; fields that were never set are left out of its JSON."""

    model_config = ConfigDict(extra="allow")

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = handler(self)
        return {key: value for key, value in stored.items() if key in self.model_fields_set}


class Gate(Frozen):
    """A promise of the recipe, and whether it was kept. `measured` None: nothing was measured."""

    promise: str
    limit: float
    measured: float | None
    kept: bool
    remedy: str = ""


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


class ExportedArtifact(Open):
    """An ONNX file that the export stage wrote, as it was measured in onnxruntime."""

    file: str
    bytes: int
    zipped_bytes: int | None = None
    precision: str
    params: int | None = None
    snr_db: float | None = None  # of the raw outputs against torch's
    max_abs_error: float | None = None
    val: Accuracy | None = None
    test: Accuracy | None = None
    drop_from_torch: float | None = None  # of the headline metric, on val
    fusion: Fusion | None = None

    def accuracy(self, split: str) -> Accuracy | None:
        return self.test if split == "test" else self.val


class StageRow(Open):
    """One stage; further keys are the stage's own, such as "curves" and "target"."""

    name: str
    kind: str
    cached: bool = False
    seconds: float | None = None
    cost: Cost | None = None
    final: Accuracy | None = None
    flags: tuple[str, ...] = ()


class StoredWeights(Open):
    """How an integer layer stores its weights."""

    count: int
    bits: int


class RoundedStage(Open):
    """A stage that gave the network integers: after training, or by QAT."""

    stage: str
    kind: str
    final: Accuracy | None = None
    drop: float | None = None  # of the headline metric, against float
    weights: tuple[StoredWeights, ...] = ()
    graph_bytes: int | None = None
    graph_zipped_bytes: int | None = None


class PrunedLayer(Open):
    """Channels of a layer before and after; `layers` are the convolutions whose channels are tied to it."""

    name: str
    group: str
    before: int
    kept: int
    layers: tuple[str, ...] = ()


class Pruning(Open):
    """What a prune stage took, by layer and by scale group."""

    stage: str
    layers: tuple[PrunedLayer, ...]
    groups: tuple[JsonObject, ...]


class Note(Frozen):
    level: str
    message: str


class Report(Open):
    """Everything that a report shows, but pictures. Reports before `version` have the same keys."""

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
    gates: tuple[Gate, ...]
    kept: bool
    shipped: str | None  # precision
    dense: Side
    out: Side
    threads: tuple[int, ...]
    stages: tuple[StageRow, ...]
    prunings: tuple[Pruning, ...]
    gamma: JsonObject | None
    quantized: JsonObject
    rounded: tuple[RoundedStage, ...]
    artifacts: dict[ArtifactField, ExportedArtifact]
    profile: _Profile
    notes: tuple[Note, ...]

    @property
    def headline(self) -> Metric:
        return self.metrics[0]

    @property
    def tested(self) -> bool:
        """Whether artifacts were measured on a test split."""
        return any(artifact.test is not None for artifact in self.artifacts.values())
