"""The result of the export stage."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from edgec.core.frozen import Figure, Frozen
from edgec.core.results.accuracy import Accuracy
from edgec.core.results.artifact_id import ArtifactField, ArtifactId, Precision
from edgec.core.results.fusion import Fusion
from edgec.core.results.stage import StageResult

# by file size, for what is shipped; the accuracy of the stage goes by `stages.export.FINAL`
SMALLEST_FIRST: tuple[Precision, ...] = ("codebook", "int8", "fp16", "fp32")


class ArtifactResult(Frozen):
    """One artifact, measured in onnxruntime after it was written.

    `torch`: the headline metric of the network it came from, by split; `drop_from_torch` on the validation split.
    `snr_db`, `max_abs_error`: of its outputs against torch's. `float_layers`: layers that int8 leaves in float.
    """

    file: str
    bytes: int
    zipped_bytes: int | None = None
    precision: Precision
    params: int
    snr_db: Figure = None
    max_abs_error: Figure = None
    fusion: Fusion | None = None
    float_layers: tuple[str, ...] | None = None
    val: Accuracy | None = None
    test: Accuracy | None = None
    torch: dict[str, float] = Field(default_factory=dict[str, float])
    drop_from_torch: Figure = None

    def on(self, split: str) -> Accuracy | None:
        """The accuracy on a split; None where that was not measured."""
        return {"val": self.val, "test": self.test}.get(split)

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """JSON leaves out what an artifact does not have."""
        stored: dict[str, Any] = handler(self)
        return {
            k: v
            for k, v in stored.items()
            if v is not None or k not in ("fusion", "float_layers", "val", "test")
        }


class ExportResult(StageResult):
    """The export stage. `final`: of the smallest artifact that runs in integers, else of fp32."""

    kind: ClassVar[str] = "export"
    artifacts: dict[ArtifactField, ArtifactResult]

    def of(self, artifact: ArtifactId) -> ArtifactResult | None:
        return self.artifacts.get(artifact)

    @property
    def smallest(self) -> ArtifactId | None:
        """What is shipped unless the recipe names another precision: the smallest that was exported."""
        model = {a.precision for a in self.artifacts if isinstance(a, ArtifactId) and a.role == "model"}
        return next((ArtifactId("model", p) for p in SMALLEST_FIRST if p in model), None)
