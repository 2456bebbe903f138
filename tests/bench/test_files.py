"""Loose .onnx files: profiled side by side, told apart, converted where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.bench import files
from edgec.bench.candidate import Candidate
from edgec.bench.files import candidates_of, prepare_files, profile_artifacts
from edgec.bench.graph_facts import GraphFacts, facts_of
from edgec.core.errors import Missing, StageError
from edgec.core.events import Events, Note
from edgec.core.results.artifact_id import DENSE, ArtifactId, ForeignArtifact, artifact_named
from edgec.devices import local
from edgec.quantization.weights.palettize import palettized
from edgec.recipe import Profile

QUICK: dict[str, Any] = {"warmup_seconds": 0.01, "min_seconds": 0.03, "max_seconds": 0.1, "interval": 0.3}


def test_a_round_visits_every_artifact_before_the_next_begins(
    save: Callable[..., Path], tmp_path: Path, null_runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[str] = []

    def ask(job: dict[str, Any], deadline_s: float | None) -> dict[str, Any]:
        visited.append(Path(job["artifact"]).stem)
        return {
            "samples_ms": [1.0, 1.0, 1.0], "first_ms": 1, "load_ms": 1, "min_cpu_ms": 1, "peak_rss_bytes": 1,
            "wall_cpu_ratio": 1, "involuntary_switches": 0, "drift": 1, "measured_seconds": 1,
        }  # fmt: skip

    monkeypatch.setattr(local, "probe", ask)
    paths = [save(tmp_path / f"{name}.onnx") for name in "ab"]
    figures = profile_artifacts(
        paths, Profile(runtimes=(null_runtime,), threads=(1,), processes=3, **QUICK), Events()
    )
    assert visited == ["a", "b"] * 3
    assert figures.first.speedups[0].ratio == 1.0
    assert [c.runs for c in figures.first.cells] == [9, 9]


def test_onnxruntime_with_operators(save: Callable[..., Path], tmp_path: Path) -> None:
    path = save(tmp_path / "other.onnx")
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=1, **QUICK)
    figures = profile_artifacts([path, path], config, Events()).first
    assert len(figures.cells) == 1  # one file given twice is one file
    assert figures.cells[0].precision == "fp32"
    times = figures.operators_of(artifact_named("other"))
    assert times is not None and times.types.keys() == {"Mul"} and times.operators[0].share == 1.0
    assert "onnxruntime" in figures.environment.versions
    assert figures.speedups == ()


def test_the_others_are_kept_when_one_artifact_is_broken(save: Callable[..., Path], tmp_path: Path) -> None:
    heard: list[Any] = []
    good = save(tmp_path / "good.onnx")
    torn = save(tmp_path / "torn.onnx")
    torn.write_bytes(torn.read_bytes()[:100])
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=2, **QUICK)
    figures = profile_artifacts([torn, good], config, Events(listeners=(heard.append,)))
    assert [c.artifact.name for c in figures.first.cells] == ["good"]
    (failure,) = figures.failures
    assert (failure.artifact, failure.runtime, failure.threads) == (artifact_named("torn"), "onnxruntime", 1)
    assert "export it again" in failure.error
    assert sum(isinstance(e, Note) and e.level == "error" for e in heard) == 1  # said once, not in each round


def test_nothing_measured_is_an_error(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=1, **QUICK)
    with pytest.raises(StageError, match=r"gone.onnx: not found"):
        profile_artifacts([tmp_path / "gone.onnx"], config, Events())

    def absent(job: dict[str, Any], deadline_s: float | None) -> dict[str, Any]:
        raise Missing("onnxruntime cannot be imported")

    monkeypatch.setattr(local, "probe", absent)
    with pytest.raises(Missing):
        profile_artifacts([save(tmp_path / "a.onnx")], config, Events())


def test_torch_cannot_run_a_file(save: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(StageError, match="take onnxruntime"):
        profile_artifacts([save(tmp_path / "a.onnx")], Profile(runtimes=("torch",)), Events())


def test_facts_are_read_from_the_graph(save: Callable[..., Path], tmp_path: Path) -> None:
    assert facts_of(save(tmp_path / "a.onnx")) == GraphFacts("fp32", open_batch=False)
    assert facts_of(save(tmp_path / "b.onnx", TensorProto.FLOAT16)).precision == "fp16"
    assert facts_of(save(tmp_path / "c.onnx", op="QuantizeLinear")).precision == "int8"
    (tmp_path / "d.onnx").write_bytes(b"\xff\xff\xff")
    assert facts_of(tmp_path / "d.onnx") == GraphFacts("unknown", open_batch=False)


def save_palettized(path: Path) -> Path:
    """A convolution whose int8 weights take two values, stored as 4-bit indices."""
    weights = np.where(np.arange(3 * 3 * 64) % 2, 5, -7).astype(np.int8).reshape(64, 3, 3, 1)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["w_dq"]),
        helper.make_node("Conv", ["images", "w_dq"], ["out"]),
    ]
    stored = [
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 64, 6, 8])
    graph = helper.make_graph(nodes, "tiny", [images], [out], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(palettized(model), str(path))
    return path


@pytest.mark.parametrize("name", ["model.codebook", "model.codebook.tile", "few bits"])
def test_palettized_weights_are_measured_in_onnxruntime_and_not_converted(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also those of a tile, and of files that edgec did not name: what counts is how the graph stores them."""
    asked: list[str] = []

    def remember(candidates: list[Candidate], *rest: Any) -> list[Any]:
        asked.extend(c.artifact.name for c in candidates)
        return []

    monkeypatch.setattr(files, "conversions", remember)
    paths = [save_palettized(tmp_path / f"{name}.onnx"), save(tmp_path / "model.fp32.onnx")]
    assert facts_of(paths[0]).palettized and not facts_of(paths[1]).palettized
    prepared = prepare_files(paths, ["onnxruntime", "ncnn"], tmp_path / "out", Events())
    assert asked == ["model.fp32"]
    assert {c.artifact.name for c in prepared.candidates} == {name, "model.fp32"}


def test_equal_names_are_distinguished_and_golden_files_found(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [save(tmp_path / folder / "model.fp32.onnx") for folder in ("a", "b")]
    golden = tmp_path / "b" / "golden" / "model.fp32.npz"
    golden.parent.mkdir()
    golden.write_bytes(b"")
    candidates = candidates_of(paths, ["null"])
    assert [c.artifact for c in candidates] == [
        ForeignArtifact(str(tmp_path / folder / "model.fp32")) for folder in ("a", "b")
    ]
    assert [c.golden for c in candidates] == [None, golden]


def test_each_file_is_compared_with_fp32_of_its_own_network_shape_and_folder(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    names = (
        "dense.fp32",
        "model.fp32",
        "model.int8",
        "model.fp32.tile",
        "model.int8.tile",
        "net.fp32",
        "net.int8",
    )
    here = {
        c.artifact.name: c.plain
        for c in candidates_of([save(tmp_path / f"{n}.onnx") for n in names], ["null"])
    }
    tile, whole = ArtifactId("model", "fp32", "tile"), ArtifactId("model", "fp32")
    assert here["model.int8.tile"] == tile and here["model.int8"] == whole and here["dense.fp32"] == DENSE
    assert here["net.int8"] == artifact_named("net.fp32")
    both = [save(tmp_path / folder / f"model.{p}.onnx") for folder in "ab" for p in ("fp32", "int8")]
    plain = {c.path: c.plain for c in candidates_of(both, ["null"])}
    assert plain[both[3]] == ForeignArtifact(str(tmp_path / "b" / "model.fp32"))
