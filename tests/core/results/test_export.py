"""What the export hands back: artifacts by their identity, stored under their names and the keys of old."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgec.core.results.artifact_id import DENSE, ArtifactId
from edgec.core.results.export import ExportResult
from edgec.recipe.stage_results import result_of_json

INT8 = ArtifactId("model", "int8")
FUSION = {"integer": 2, "left_float": [], "dequantize": 0, "lone": [], "wanted": 2}


def entry(precision: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "file": f"{name}.onnx", "bytes": 300, "zipped_bytes": 200, "precision": precision, "params": 70, "snr_db": 26.9,
        "max_abs_error": 0.5, "val": {"psnr": 31.5, "psnr/set5": 31.5, "psnr/set5/baby": 31.5}, "torch": {"val": 31.625},
        "drop_from_torch": 0.125,
    } | more  # fmt: skip


STORED: dict[str, Any] = {
    "artifacts": {
        "dense.fp32": entry("fp32", "dense.fp32"),
        "model.int8": entry("int8", "model.int8", fusion=FUSION, float_layers=["head"], test={"psnr": 30.0}),
        "model.int8.tile": entry("int8", "model.int8.tile", fusion=FUSION, float_layers=[]),
    },
    "final": {"psnr": 31.5},
}


def read(stored: dict[str, Any]) -> ExportResult:
    result = result_of_json("export", stored)
    assert isinstance(result, ExportResult)
    return result


def test_json_comes_back_as_it_was() -> None:
    assert json.loads(read(STORED).model_dump_json()) == STORED


def test_an_artifact_is_asked_for_by_its_identity() -> None:
    result = read(STORED)
    assert list(result.artifacts) == [DENSE, INT8, ArtifactId("model", "int8", "tile")]
    found = result.of(INT8)
    assert found is not None and found.float_layers == ("head",)
    assert found.on("test") is not None and found.on("train") is None
    assert result.of(ArtifactId("model", "fp16")) is None


def test_accuracy_is_kept_by_set_and_image() -> None:
    found = read(STORED).artifacts[DENSE].val
    assert found is not None and found["psnr"] == 31.5
    assert found.by_set == {"psnr": {"set5": 31.5}} and found.by_image == {"psnr": {"set5": {"baby": 31.5}}}


@pytest.mark.parametrize(
    ("names", "smallest"),
    [
        (("model.fp32", "model.int8", "model.codebook"), "codebook"),
        (("model.fp32", "model.fp16", "model.int8"), "int8"),
        (("dense.fp32", "model.fp32", "model.fp16"), "fp16"),
        (("dense.fp32",), None),
    ],
)
def test_the_smallest_precision_of_the_model_is_the_shipped_one(
    names: tuple[str, ...], smallest: str | None
) -> None:
    result = read({"artifacts": {name: entry(name.split(".")[1], name) for name in names}, "final": {}})
    assert (result.smallest.precision if result.smallest else None) == smallest
