"""Which artifact is meant: its role, precision and shape, instead of a name that has to be parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer

Role = Literal["dense", "model"]
Precision = Literal["fp32", "fp16", "int8", "codebook"]
Shape = Literal["normal", "tile"]


@dataclass(frozen=True)
class ArtifactId:
    """An artifact that an export stage writes. `name` is its file name without `.onnx`: `model.int8`, `model.int8.tile`.

    dense: the network before compression; model: what the pipeline made. tile: the graph of a fixed tile beside the normal one.
    """

    role: Role
    precision: Precision
    shape: Shape = "normal"

    @property
    def name(self) -> str:
        return f"{self.role}.{self.precision}" + ("" if self.shape == "normal" else f".{self.shape}")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ForeignArtifact:
    """An ONNX file that no export stage of edgec wrote, by the name that a measurement gave it."""

    name: str

    def __str__(self) -> str:
        return self.name


AnyArtifact = ArtifactId | ForeignArtifact
DENSE = ArtifactId("dense", "fp32")

_KNOWN = {
    made.name: made
    for role in ("dense", "model")
    for precision in ("fp32", "fp16", "int8", "codebook")
    for shape in ("normal", "tile")
    for made in (ArtifactId(role, precision, shape),)
}


def artifact_named(name: str) -> AnyArtifact:
    """The artifact of a file's name without `.onnx`: one of an export stage, or a foreign one."""
    return _KNOWN.get(name) or ForeignArtifact(name)


def _read(value: Any) -> Any:
    return artifact_named(value) if isinstance(value, str) else value


# For the fields of records: typed in Python, its name in JSON.
ArtifactField = Annotated[
    AnyArtifact, BeforeValidator(_read), PlainSerializer(lambda a: a.name, return_type=str)
]
