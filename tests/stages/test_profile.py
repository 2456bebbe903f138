"""The profile stage on tiny files, in the null runtime, onnxruntime and torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgec.bench.rounds import slower
from edgec.core.errors import Missing, StageError
from edgec.core.events import Events, Note, Progress
from edgec.core.network import Network
from edgec.devices import local
from edgec.env import Env
from edgec.recipe import Profile, TorchWays
from edgec.stages.profile import graph_of, profile, profile_artifacts, subjects_of

QUICK: dict[str, Any] = {"warmup_seconds": 0.01, "min_seconds": 0.03, "max_seconds": 0.1, "interval": 0.3}
CELL = {
    "artifact", "runtime", "precision", "threads", "median_ms", "ci_low_ms", "ci_high_ms", "p90_ms", "p99_ms",
    "first_ms", "load_ms", "min_cpu_ms", "peak_rss_bytes", "runs", "samples_ms",
}  # fmt: skip


def save(path: Path, element: int = TensorProto.FLOAT, op: str = "Mul", side: int = 16) -> Path:
    dtype = helper.tensor_dtype_to_np_dtype(element)
    weights = [numpy_helper.from_array(np.ones((1, 3, side, side), dtype), "w")]
    nodes = [helper.make_node(op, ["images", "w"], ["out"], name="product")]
    given = helper.make_tensor_value_info("images", element, [1, 3, side, side])
    output = helper.make_tensor_value_info("out", element, [1, 3, side, side])
    graph = helper.make_graph(nodes, "tiny", [given], [output], weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


@pytest.fixture
def heard() -> list[Any]:
    return []


@pytest.fixture
def make_env(tmp_path: Path, heard: list[Any]) -> Callable[..., Env]:
    def make(network: Network, inputs: Path | None = None, dense: Network | None = None) -> Env:
        task: Any = SimpleNamespace(example=lambda: torch.zeros(1, 3, 16, 16))
        for name in ("scratch", "out"):
            (tmp_path / name).mkdir(exist_ok=True)
        return Env(
            task, "profile", Events(listeners=(heard.append,)), dense or network, tmp_path / "scratch",
            tmp_path / "out", inputs, allow_code=True,
        )  # fmt: skip

    return make


def test_the_figures_of_an_export_folder(
    tmp_path: Path, make_env: Callable[..., Env], heard: list[Any]
) -> None:
    folder = tmp_path / "export"
    for name in ("model.int8", "model.fp32", "dense.fp32"):
        save(folder / f"{name}.onnx")
    network = Network("none")
    config = Profile(runtimes=("null",), threads=(1,), processes=2, **QUICK)
    same, metrics = profile(config, network, make_env(network, folder))
    assert same is network
    assert [c["artifact"] for c in metrics["cells"]] == ["dense.fp32", "model.fp32", "model.int8"]
    assert metrics["verdict"] in ("quiet", "busy: ratios only", "unusable")
    assert {"cpu", "cores", "governor", "os", "python", "versions"} <= metrics["environment"].keys()
    for cell in metrics["cells"]:
        assert cell.keys() >= CELL
        assert cell["ci_low_ms"] <= cell["median_ms"] <= cell["ci_high_ms"]
        assert cell["p90_ms"] <= cell["p99_ms"]
        assert len(cell["samples_ms"]) <= 200 <= cell["runs"]
    pairs = {(s["artifact"], s["against"]) for s in metrics["speedups"]}
    assert pairs == {
        ("model.fp32", "dense.fp32"), ("model.int8", "dense.fp32"), ("model.int8", "model.fp32"),
    }  # fmt: skip
    assert all(s["ci_low"] <= s["ratio"] <= s["ci_high"] for s in metrics["speedups"])
    assert metrics["failures"] == []
    assert json.loads(json.dumps(metrics)) == metrics
    progress = [e for e in heard if isinstance(e, Progress)]
    assert progress[-1].done == progress[-1].total == 6
    assert [e.done for e in progress] == sorted(e.done for e in progress)


def test_a_round_visits_every_artifact_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        paths, Profile(runtimes=("null",), threads=(1,), processes=3, **QUICK), Events()
    )
    assert visited == ["a", "b"] * 3
    assert figures["speedups"][0]["ratio"] == 1.0
    assert [c["runs"] for c in figures["cells"]] == [9, 9]


def test_onnxruntime_with_operators(tmp_path: Path) -> None:
    path = save(tmp_path / "other.onnx")
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=1, **QUICK)
    figures = profile_artifacts([path, path], config, Events())
    assert len(figures["cells"]) == 1  # one file given twice is one file
    assert figures["cells"][0]["precision"] == "fp32"
    assert figures["operators"]["other"][0].keys() == {"name", "type", "ms", "share", "layer"}
    assert figures["operator_types"]["other"].keys() == {"Mul"}
    assert "onnxruntime" in figures["environment"]["versions"]
    assert figures["speedups"] == []


def test_the_others_are_kept_when_one_artifact_is_broken(tmp_path: Path, heard: list[Any]) -> None:
    good = save(tmp_path / "good.onnx")
    torn = save(tmp_path / "torn.onnx")
    torn.write_bytes(torn.read_bytes()[:100])
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=2, **QUICK)
    figures = profile_artifacts([torn, good], config, Events(listeners=(heard.append,)))
    assert [c["artifact"] for c in figures["cells"]] == ["good"]
    (failure,) = figures["failures"]
    assert (failure["artifact"], failure["runtime"], failure["threads"]) == ("torn", "onnxruntime", 1)
    assert "export it again" in failure["error"]
    assert sum(isinstance(e, Note) and e.level == "error" for e in heard) == 1  # told once, not in each round


def test_nothing_measured_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=1, **QUICK)
    with pytest.raises(StageError, match=r"gone.onnx: not found"):
        profile_artifacts([tmp_path / "gone.onnx"], config, Events())

    def absent(job: dict[str, Any], deadline_s: float | None) -> dict[str, Any]:
        raise Missing("onnxruntime cannot be imported")

    monkeypatch.setattr(local, "probe", absent)
    with pytest.raises(Missing):
        profile_artifacts([save(tmp_path / "a.onnx")], config, Events())


def test_torch_cannot_run_a_file(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="take onnxruntime"):
        profile_artifacts([save(tmp_path / "a.onnx")], Profile(runtimes=("torch",)), Events())


def test_no_export_before_is_told_with_a_remedy(make_env: Callable[..., Env]) -> None:
    network = Network("none")
    with pytest.raises(StageError, match=r"stages.profile.*put an export stage before it"):
        profile(Profile(), network, make_env(network))


def test_torch_in_a_process_of_its_own(
    tmp_path: Path, make_env: Callable[..., Env], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny_factory.py").write_text(
        "from torch import nn\ndef build(wide):\n return nn.Conv2d(3, wide, 3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = Network.initial("tiny_factory:build", {"wide": 2}, 0, allow_code=True)
    dense = Network.initial("tiny_factory:build", {"wide": 8}, 0, allow_code=True)
    config = Profile(runtimes=("torch",), threads=(1,), processes=1, **QUICK)
    _, metrics = profile(config, network, make_env(network, dense=dense))
    assert [(c["artifact"], c["runtime"]) for c in metrics["cells"]] == [
        ("dense.fp32", "torch"),
        ("model.fp32", "torch"),
    ]
    assert [(s["artifact"], s["against"]) for s in metrics["speedups"]] == [("model.fp32", "dense.fp32")]
    assert metrics["operators"] == {}


def test_ways_to_run_in_torch(
    tmp_path: Path, make_env: Callable[..., Env], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ways_factory.py").write_text(
        "from torch import nn\ndef build(wide):\n return nn.Conv2d(3, wide, 3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = Network.initial("ways_factory:build", {"wide": 2}, 0, allow_code=True)
    ways = TorchWays(
        modes=("eager", "cuda_graph"),
        precisions=("fp32", "bf16"),
        layouts=("channels_first", "channels_last"),
    )
    env = make_env(network)
    seen: list[str] = []

    def evaluate(predictor: Any, split: str) -> dict[str, float]:
        (out,) = predictor.run(np.ones((1, 3, 16, 16), np.float32))
        seen.append(str(out.dtype))
        return {"map50": 0.5}

    env.task.evaluate = evaluate  # type: ignore[method-assign]
    env.task.contract = lambda net: None  # type: ignore[method-assign]
    config = Profile(runtimes=("torch",), threads=(1,), processes=1, batches=(1, 3), torch=ways, **QUICK)
    _, metrics = profile(config, network, env)
    on_cpu = ["torch", "torch channels last", "torch bf16", "torch channels last bf16"]
    assert [(c["runtime"], c["batch"]) for c in metrics["cells"]] == [(n, b) for b in (1, 3) for n in on_cpu]
    assert {f["kind"] for f in metrics["failures"]} == {"missing"}  # no CUDA here
    assert seen == ["float32"]
    told = {c["runtime"]: c["metrics"] for c in metrics["conversions"]}
    assert told["torch bf16"] == {"map50": 0.5}


@pytest.mark.slow
def test_compiled_torch(
    tmp_path: Path, make_env: Callable[..., Env], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler, which torch.compile needs on the CPU")
    (tmp_path / "compiled_factory.py").write_text(
        "from torch import nn\ndef build(wide):\n return nn.Sequential(nn.Conv2d(3, wide, 3), nn.ReLU())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    network = Network.initial("compiled_factory:build", {"wide": 2}, 0, allow_code=True)
    config = Profile(
        runtimes=("torch",), threads=(1,), processes=1, torch=TorchWays(modes=("compiled",)), **QUICK
    )
    _, metrics = profile(config, network, make_env(network))
    (cell,) = metrics["cells"]
    assert cell["runtime"] == "torch compiled"
    assert cell["first_ms"] > 10 * cell["median_ms"]  # the first run compiles


def test_precision_is_read_from_the_graph(tmp_path: Path) -> None:
    assert graph_of(save(tmp_path / "a.onnx"))[0] == "fp32"
    assert graph_of(save(tmp_path / "b.onnx", TensorProto.FLOAT16))[0] == "fp16"
    assert graph_of(save(tmp_path / "c.onnx", op="QuantizeLinear"))[0] == "int8"
    (tmp_path / "d.onnx").write_bytes(b"\xff\xff\xff")
    assert graph_of(tmp_path / "d.onnx") == ("unknown", False)


def test_equal_names_are_told_apart_and_golden_files_found(tmp_path: Path) -> None:
    paths = [save(tmp_path / folder / "model.fp32.onnx") for folder in ("a", "b")]
    golden = tmp_path / "b" / "golden" / "model.fp32.npz"
    golden.parent.mkdir()
    golden.write_bytes(b"")
    subjects = subjects_of(paths, ["null"])
    assert len({s.artifact for s in subjects}) == 2
    assert [s.extra.get("golden") for s in subjects] == [None, str(golden)]


def test_slower_artifacts_are_named_with_their_operators() -> None:
    def pair(ratio: float, high: float, runtime: str = "onnxruntime") -> dict[str, Any]:
        return {"artifact": "model.fp16", "against": "model.fp32", "runtime": runtime, "threads": 1,
                "ratio": ratio, "ci_low": ratio - 0.1, "ci_high": high}  # fmt: skip

    operators = {
        "model.fp16": {"operators": [], "types": {"Conv": 2.0, "Cast": 1.0}, "total_ms": 3.0},
        "model.fp32": {"operators": [], "types": {"Conv": 2.0}, "total_ms": 2.0},
    }
    (row,) = slower([pair(0.7, 0.8)], operators)
    assert [o["type"] for o in row["operators"]] == ["Cast"]
    assert slower([pair(1.2, 1.3), pair(0.99, 1.05)], operators) == []
    assert slower([pair(0.7, 0.8, "torch")], operators)[0]["operators"] == []
    assert slower([pair(0.7, 0.8)], {})[0]["operators"] == []
