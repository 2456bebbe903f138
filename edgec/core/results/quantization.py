"""Results of the stages that quantize: after training (PTQ), and by quantization-aware training (QAT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgec.core.frozen import Frozen, json_object
from edgec.core.metric import Metric, short
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import DENSE, ArtifactId
from edgec.core.results.fusion import Fusion
from edgec.core.results.stage import StageResult
from edgec.core.results.table import Section, Table, WeightPoints
from edgec.core.results.training import DistillResult

if TYPE_CHECKING:
    from edgec.core.results.profile import ProfileResult

LARGEST = 4  # layers whose weights are drawn
LEAST_PARITY_DB = 20.0  # between the trained network and its int8 graph as written; less is another network
INT8, FP32, CODEBOOK = (
    ArtifactId("model", "int8"),
    ArtifactId("model", "fp32"),
    ArtifactId("model", "codebook"),
)


class LayerSensitivity(Frozen):
    """What quantizing one layer alone does."""

    layer: str
    sqnr_db: float  # signal to quantization noise of the network's outputs
    cost: int | None = None  # padded MACs of the layer
    kept_float: bool = False
    metric_drop: float | None = None  # None: not measured


class LayerWeights(Frozen):
    """How the weights of one integer layer are stored.

    `huffman_bits`: bits per weight after Huffman coding. `points`: the centroids of a codebook, relative to the largest
    weight of the channel; `histogram`: where the weights lie, in bins from -1 to 1.
    """

    layer: str
    count: int
    bits: int
    huffman_bits: float
    points: tuple[float, ...] | None = None
    histogram: tuple[int, ...] | None = None

    @model_serializer(mode="wrap")
    def _without_codebook(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = handler(self)
        return (
            stored
            if self.points is not None
            else {k: stored[k] for k in ("layer", "count", "bits", "huffman_bits")}
        )


class ObserverTried(Frozen):
    """One way of calibrating that Neural Compressor tried, and the metric it reached."""

    observer: str
    metric: float


class NeuralCompressor(Frozen):
    """What Neural Compressor tried, the observer that it took, and how many ranges that gave."""

    tried: tuple[ObserverTried, ...]
    observer: str
    ranges: int


class Equalized(Frozen):
    """Cross-layer equalization: signal-to-noise ratio of the int8 outputs in dB without and with it."""

    used: bool
    snr_db_before: float | None = None
    snr_db_after: float | None = None
    neural_compressor: NeuralCompressor | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {k: v for k, v in handler(self).items() if v is not None}


class LayerReturned(Frozen):
    """One try of the fallback: layers in float, the one that returned last, and the metric reached.

    JSON holds the metric under its own name.
    """

    float_layers: int
    layer: str | None
    metric: str
    reached: float

    @model_validator(mode="before")
    @classmethod
    def _of_json(cls, given: Any) -> Any:
        stored = json_object(given)
        if stored is None or "reached" in stored:
            return given
        (metric,) = set(stored) - {"float_layers", "layer"}
        return {"float_layers": stored["float_layers"], "layer": stored["layer"], "metric": metric,
                "reached": stored[metric]}  # fmt: skip

    @model_serializer
    def _to_json(self) -> dict[str, Any]:
        return {"float_layers": self.float_layers, "layer": self.layer, self.metric: self.reached}


class Int8Graph(Frozen):
    """Figures of an int8 graph in onnxruntime beside its accuracy: size, fusion, weights, and what float reached.

    `drop` is of the headline metric, in its unit; sizes are in bytes, zipped with zlib. In the JSON of a stage these keys
    stand beside the stage's own.
    """

    graph_bytes: int
    graph_zipped_bytes: int
    float_accuracy: Accuracy = Field(alias="float")
    drop: float
    fusion: Fusion
    weights: tuple[LayerWeights, ...]

    @property
    def average_bits(self) -> float:
        """Bits of a weight, over all integer layers."""
        return sum(w.bits * w.count for w in self.weights) / max(sum(w.count for w in self.weights), 1)

    def flags(self) -> list[str]:
        left = len(self.fusion.unexpected)
        return [f"{left} convolutions stay in float though int8 was asked"] if left else []

    def sections(self) -> list[Section]:
        tables = [
            Table(
                "Convolutions in float",
                ["layer", "why"],
                [[f.layer, f.reason] for f in self.fusion.left_float],
            )
        ]
        if any(w.bits != 8 for w in self.weights):
            rows = [
                [w.layer, f"{w.count:,}", w.bits, f"{w.huffman_bits:.2f}", len(w.points or ()) or ""]
                for w in sorted(self.weights, key=lambda w: -w.count)
            ]
            columns = ["layer", "weights", "bits", "bits after Huffman coding", "centroids"]
            tables.append(Table("Weights", columns, rows))
        palettized = sorted((w for w in self.weights if w.points), key=lambda w: -w.count)
        charts = [
            WeightPoints(
                f"{w.layer}: {len(w.points or ())} centroids", w.histogram or (), w.points or (),
                "of the channel's largest weight",
            )
            for w in palettized[:LARGEST]
        ]  # fmt: skip
        return [Section("Integers", tables, charts)]


def _with_graph(given: Any) -> Any:
    """Gather the keys of an `Int8Graph` that stand beside a stage's own."""
    stored = json_object(given)
    if stored is None or "graph" in stored:
        return given
    keys = {field.alias or name for name, field in Int8Graph.model_fields.items()}
    graph = {key: stored.pop(key) for key in keys if key in stored}
    return {**stored, "graph": graph}


def _without_graph(stored: dict[str, Any]) -> dict[str, Any]:
    """The other way: `graph` as keys beside the others."""
    graph = stored.pop("graph")
    graph["float"] = graph.pop("float_accuracy", graph.get("float"))
    return {**stored, **graph}


class QuantizeResult(StageResult):
    """The quantize stage: post-training quantization (PTQ).

    `tried`: the fallback, layer by layer back to float (or to 8 bits) until `max_drop` was kept.
    """

    kind: ClassVar[str] = "quantize"
    graph: Int8Graph
    max_drop_kept: bool
    equalised: Equalized
    tried: tuple[LayerReturned, ...]
    sensitivity: tuple[LayerSensitivity, ...]

    _gather = model_validator(mode="before")(_with_graph)

    @model_serializer(mode="wrap")
    def _spread(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_graph(handler(self))

    def flags(self, metric: Metric, profile: ProfileResult | None) -> Sequence[str]:
        flags: list[str] = []
        if not self.max_drop_kept:
            lost = f"{self.graph.drop:.{metric.digits}f} {metric.unit}".rstrip()
            flags.append(f"int8 loses {lost} of {metric.title}, more than max_drop")
        flags += self.graph.flags()
        if profile is not None:
            flags += [*profile.slowed(INT8, FP32), *profile.slowed(INT8, DENSE)]
        return flags

    def sections(self, metrics: Sequence[Metric]) -> Sequence[Section]:
        head = metrics[0]
        rows = [
            [
                s.layer,
                f"{s.sqnr_db:.1f}",
                short(s.cost) if s.cost else "",
                head.change(s.metric_drop, 0) if s.metric_drop is not None else "",
                "yes" if s.kept_float else "",
            ]
            for s in self.sensitivity
        ]
        columns = ["layer", "SQNR dB alone", "padded MACs", f"{head.label} alone", "returned to float"]
        tables = [Table("Sensitivity", columns, rows)]
        if self.equalised.neural_compressor is not None:
            tried = self.equalised.neural_compressor.tried
            rows = [[t.observer, head.text(t.metric)] for t in tried]
            tables.append(Table("Neural Compressor", ["observer", head.label], rows))
        return [Section("Sensitivity", tables), *self.graph.sections()]


class Parity(Frozen):
    """How near the int8 graph in onnxruntime is to what was trained, in dB: as written, and as the runtime optimizes it."""

    as_written_db: float
    optimised_db: float


class QatResult(DistillResult):
    """The qad stage: quantization-aware distillation (QAT with a teacher).

    `final` is of the int8 graph in onnxruntime, `in_torch` of the network as it trained, through fake quantizers.
    `only_in_integers`: tensors that the int8 graph rounds and the training did not.
    """

    kind: ClassVar[str] = "qad"
    graph: Int8Graph
    in_torch: Accuracy
    parity: Parity
    only_in_integers: tuple[str, ...] = ()

    _gather = model_validator(mode="before")(_with_graph)

    @model_serializer(mode="wrap")
    def _spread(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_graph(handler(self))

    def flags(self, metric: Metric, profile: ProfileResult | None) -> Sequence[str]:
        flags = [*super().flags(metric, profile), *self.graph.flags()]
        if self.parity.as_written_db < LEAST_PARITY_DB:
            flags.append(
                f"the int8 graph is {self.parity.as_written_db:.1f} dB from what was trained, less than {LEAST_PARITY_DB:g}"
            )
        if profile is not None:
            flags += profile.slowed(CODEBOOK, INT8)
        return flags

    def sections(self, metrics: Sequence[Metric]) -> Sequence[Section]:
        p = self.parity
        row = [f"{p.as_written_db:.1f}", f"{p.optimised_db:.1f}", ", ".join(self.only_in_integers)]
        columns = ["as written, dB", "as optimized, dB", "rounded in the graph alone"]
        parity = Section("Parity of training and int8 graph", [Table("Parity", columns, [row])])
        return [*super().sections(metrics), parity, *self.graph.sections()]
