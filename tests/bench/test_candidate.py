"""What a measuring process is asked, and what ways to run in torch are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.bench.candidate import Candidate, Processor, TorchWay, Trial, fp32_beside
from edgec.core.results.artifact_id import DENSE, ArtifactId
from edgec.recipe import Profile


@pytest.mark.parametrize(
    ("processor", "mode", "layout", "precision", "name"),
    [
        ("cpu", "eager", "channels_first", "fp32", "torch"),
        ("cuda", "compiled", "channels_last", "bf16", "torch-cuda compiled channels last bf16"),
        ("cuda", "cuda_graph", "channels_first", "fp32", "torch-cuda cuda graph"),
    ],
)
def test_ways_in_torch_have_names(
    processor: Processor, mode: str, layout: str, precision: str, name: str
) -> None:
    assert TorchWay(processor, mode, layout, precision, (1, 3, 8, 8), False).runtime == name


def test_a_job_says_everything_that_the_probe_asks() -> None:
    config = Profile(warmup_seconds=0.1, min_seconds=4.0, max_seconds=3.0, interval=0.2)
    way = TorchWay("cuda", "eager", "channels_last", "fp16", (1, 3, 8, 8), True)
    network = Candidate(DENSE, way.runtime, "fp16", Path("folder"), torch=way)
    assert Trial(network, 2, 8).job(config) == {
        "what": "latency", "runtime": "torch-cuda channels last fp16", "artifact": "folder", "threads": 2, "batch": 8,
        "device": "cuda", "warmup_seconds": 0.1, "min_seconds": 4.0, "max_seconds": 4.0, "interval": 0.2,
        "shape": [1, 3, 8, 8], "allow_code": True, "mode": "eager", "layout": "channels_last", "precision": "fp16",
    }  # fmt: skip
    file = Candidate(
        ArtifactId("model", "int8"), "onnxruntime", "int8", Path("a.onnx"), golden=Path("a.npz"), shapes={"x": (1, 3, 9, 9)}
    )  # fmt: skip
    job = Trial(file, 1).job(config, "operators")
    assert (job["what"], job.get("golden"), job.get("shapes")) == ("operators", "a.npz", {"x": [1, 3, 9, 9]})
    assert "shape" not in job and job.get("device") == "cpu"


def test_the_fp32_file_beside_an_artifact() -> None:
    for name, plain in (
        ("model.int8", "model.fp32"), ("model.codebook.tile", "model.fp32.tile"), ("dense.fp32", "dense.fp32"),
        ("my net.fp16", "my net.fp32"), ("net", "net.fp32"),
    ):  # fmt: skip
        assert fp32_beside(Path("folder") / f"{name}.onnx") == Path("folder") / f"{plain}.onnx"
