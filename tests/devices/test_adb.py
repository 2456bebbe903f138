"""A phone behind adb, without Python: its benchmark programs are called, and what they say is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.bench.files import profile_artifacts
from edgec.core.errors import Missing, RecipeError, StageError
from edgec.core.events import Events
from edgec.core.results.profile import ProfileResult
from edgec.devices.device import DeviceLost
from edgec.devices.inventory import open_devices
from edgec.devices.probe_job import ProbeJob
from edgec.devices.programs import parse
from edgec.recipe import Profile

QUICK: dict[str, Any] = {"warmup_seconds": 0.01, "min_seconds": 0.03, "max_seconds": 0.1, "interval": 0.3}

BENCHNCNN = """loop_count = 50
num_threads = 2
powersave = 0
gpu_device = -1
cooling_down = 0
        model.param  min =    5.11  max =    6.02  avg =    5.25
"""
MNN = """MNN benchmark
Forward type: CPU thread=2 precision=1 sparsity=0 sparseBlockOC=1 testQuantizedModel=0
--------> Benchmarking... loop = 50, warmup = 10
[ - ] model.mnn                   max =    8.310 ms  min =    7.902 ms  avg =    8.021 ms
"""
LITERT = """INFO: Initialized session in 12.5ms.
INFO: Running benchmark for at least 10 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=62 first=9120 curr=8011 min=7980 max=9120 avg=8055.2 std=149
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=124 first=8023 curr=8001 min=7976 max=8270 avg=8012.3 std=31
INFO: Inference timings in us: Init: 12500, First inference: 9120, Warmup (avg): 8055.2, Inference (avg): 8012.3
INFO: Memory footprint delta from the start of the tool (MB): init=4.2 overall=11.7
"""
ORT = """Session creation time cost: 0.0213 s
First inference time cost: 6 ms
Total inference time cost: 0.26 s
Average inference time cost: 5.2 ms
P50 Latency: 0.00511 s
P90 Latency: 0.0057 s
"""


@pytest.mark.parametrize(
    ("runtime", "output", "ms"),
    [("ncnn", BENCHNCNN, 5.25), ("mnn", MNN, 8.021), ("litert", LITERT, 8.0123), ("onnxruntime", ORT, 5.11)],
)
def test_outputs_of_benchmark_programs(runtime: str, output: str, ms: float) -> None:
    found = parse(runtime, output)
    assert found is not None
    assert found["samples_ms"] == [pytest.approx(ms)]
    assert parse(runtime, "Segmentation fault") is None
    assert parse(runtime, "") is None


def test_what_litert_tells_besides() -> None:
    found = parse("litert", LITERT)
    assert found is not None
    assert (found["first_ms"], found["load_ms"]) == (9.12, 12.5)
    assert parse("litert", "count=50 first=1 curr=2 min=1 max=9 avg=4000.5 std=2") == {"samples_ms": [4.0005]}
    average = parse("onnxruntime", "Average inference time cost: 5.2 ms")
    assert average == {"samples_ms": [5.2]}


@pytest.fixture
def with_programs(phone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The phone, with programs that say what real ones say, and write down how they were called."""
    lines = ["phone:", "  address: adb://R58M123", "  benchmarks:"]
    for runtime, output in (("ncnn", BENCHNCNN), ("onnxruntime", ORT)):
        program = phone / f"bench_{runtime}"
        program.write_text(
            f"#!/bin/sh\necho $PWD $@ >> {phone}/calls\nls >> {phone}/calls\ncat <<'END'\n{output}END\n"
        )
        program.chmod(0o755)
        lines.append(f"    {runtime}: {program}")
    path = tmp_path / "devices.yaml"
    path.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("EDGEC_DEVICES", str(path))
    return phone


def test_a_phone_without_python(with_programs: Path, tiny_onnx: Callable[..., Path]) -> None:
    config = Profile(runtimes=("onnxruntime",), threads=(2,), processes=3, devices=("phone",), **QUICK)
    result = profile_artifacts([tiny_onnx("a.onnx"), tiny_onnx("b.onnx")], config, Events())
    figures = result.first
    assert figures.device == "phone"
    for cell in figures.cells:
        assert cell.median_ms == pytest.approx(5.11)
        assert (cell.processes, cell.runs, cell.p99_ms, cell.min_cpu_ms) == (3, 150, None, None)
    assert figures.speedups[0].ratio == pytest.approx(1.0)
    assert figures.verdict == "busy: ratios only"
    assert "nothing says that it ran alone" in figures.reasons[-1]
    assert figures.environment.cores >= 1
    assert ProfileResult.model_validate_json(result.model_dump_json()) == result
    calls = (with_programs / "calls").read_text().splitlines()
    assert "-e cpu -m times -r 50 -x 2 -y 1 -I" in calls[0]
    assert list((with_programs / "edgec").iterdir()) == []


def test_benchncnn_gets_the_shape_and_finds_the_files(with_programs: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    for name in ("model.param", "model.bin"):
        (package / name).write_bytes(b"7767517\n")
    told = {
        "runtime": "ncnn",
        "file": "model.param",
        "precision": "fp32",
        "inputs": {"images": [1, 3, 320, 256]},
    }
    (package / "package.json").write_text(json.dumps({**told, "outputs": ["out"]}))
    (device,) = open_devices(["phone"])
    job: ProbeJob = {
        "what": "latency",
        "runtime": "ncnn",
        "artifact": str(package),
        "threads": 2,
        "max_seconds": 1,
    }
    answer = device.probe(job)
    assert answer["samples_ms"] == [5.25]
    assert answer["inputs"] == {"images": [1, 3, 320, 256]}
    called, *files = (with_programs / "calls").read_text().splitlines()
    assert called.endswith("50 2 0 -1 0 param=model.param shape=[256,320,3]")
    assert files == ["model.bin", "model.param"]  # MNN's program takes all that lies there for models
    with pytest.raises(Missing, match="no benchmark program for openvino; add one to `benchmarks:`"):
        device.probe({**job, "runtime": "openvino"})
    (package / "package.json").write_text(json.dumps({**told, "file": "x;touch y", "outputs": ["out"]}))
    with pytest.raises(StageError, match="'x;touch y' of its file cannot be used in a command"):
        device.probe(job)
    (package / "package.json").write_text(json.dumps({**told, "outputs": ["out"]}))
    (with_programs / "bench_ncnn").write_text("#!/bin/sh\necho layer Foo not registered\nexit 0\n")
    with pytest.raises(
        StageError, match=r"reported no time: layer Foo not registered; is it the benchmark of ncnn\?"
    ):
        device.probe(job)
    (with_programs / "bench_ncnn").unlink()
    with pytest.raises(Missing, match="a program is missing on phone"):
        device.probe(job)
    device.close()


def test_a_phone_that_is_not_there(phone: Path) -> None:
    (device,) = open_devices(["adb://OTHER"])
    with pytest.raises(DeviceLost, match=r"adb://OTHER: device 'OTHER' not found; `adb devices` lists"):
        device.environment()
    device.close()
    (device,) = open_devices(["adb://R58M123"])
    (phone / "gone").touch()
    with pytest.raises(DeviceLost, match="device offline; plug it in again"):
        device.environment()
    device.close()


def test_without_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (device,) = open_devices(["adb://R58M123"])
    with pytest.raises(Missing, match="adb is not installed on this machine"):
        device.environment()
    device.close()


@pytest.mark.parametrize("address", ["adb://", "adb://-s", "adb://a b", "adb://a;b", "adb://a'b"])
def test_serials_that_could_be_anything_else(address: str) -> None:
    with pytest.raises(RecipeError, match="is not a serial number"):
        open_devices([address])


def test_a_phone_with_python_runs_the_probe(phone: Path, tiny_onnx: Callable[..., Path], tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    import sys

    path = tmp_path / "devices.yaml"
    path.write_text(f"board: {{address: 'adb://R58M123', python: {sys.executable}}}\n")
    monkeypatch.setenv("EDGEC_DEVICES", str(path))
    config = Profile(runtimes=("onnxruntime",), threads=(1,), processes=1, devices=("board",), **QUICK)
    figures = profile_artifacts([tiny_onnx()], config, Events()).first
    assert figures.cells[0].runs >= 3
    assert list((phone / "edgec").iterdir()) == []
