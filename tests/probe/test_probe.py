"""The measuring process: its answers, its errors, and that it needs nothing of edgec."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.core.errors import Missing, StageError
from edgec.devices import local
from edgec.devices.probe_job import ProbeJob
from edgec.probe import measure as probe_measure
from edgec.probe.measure import ProbeError, interval_width, measure, peak_rss_bytes, pin
from edgec.probe.onnx_session import open_session, summarise


def job(path: Path, **changes: Any) -> ProbeJob:
    made: Any = {
        "what": "latency", "runtime": "onnxruntime", "artifact": str(path), "threads": 1,
        "warmup_seconds": 0.02, "min_seconds": 0.05, "max_seconds": 0.2, "interval": 0.1,
    } | changes  # fmt: skip
    return made


def test_latency_of_an_onnx_file(tiny_onnx: Callable[..., Path]) -> None:
    answer: Any = local.probe(job(tiny_onnx()))
    samples = answer["samples_ms"]
    assert len(samples) >= 3
    assert all(0 < value < 1000 for value in samples)
    assert answer["min_cpu_ms"] <= max(samples)
    assert answer["load_ms"] > 0
    assert answer["first_ms"] > 0
    assert 10e6 < answer["peak_rss_bytes"] < 1e9
    assert answer["session"] == {"execution": "sequential", "intra_op": 1, "inter_op": 1, "spinning": True}
    assert answer["versions"].keys() == {"onnxruntime", "numpy"}
    assert answer["inputs"] == {"images": [1, 3, 16, 16]}
    if hasattr(os, "sched_getaffinity"):
        assert answer["pinned"] == sorted(os.sched_getaffinity(0))[:1]


def test_open_sizes_are_1_or_as_given(tiny_onnx: Callable[..., Path]) -> None:
    path = tiny_onnx(image=("n", 3, "h", "w"))
    assert local.probe(job(path))["inputs"] == {"images": [1, 3, 1, 1]}
    given = local.probe(job(path, shapes={"images": [2, 3, 8, 8]}))
    assert given["inputs"] == {"images": [2, 3, 8, 8]}


def test_open_channels_are_reported_with_a_remedy(tiny_onnx: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match=r"images \['n', 'c', 16, 16\].*export it with fixed sizes"):
        local.probe(job(tiny_onnx(image=("n", "c", 16, 16))))


def test_wrong_dims_are_reported(tiny_onnx: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match=r"tiny.onnx in onnxruntime with 1 thread"):
        local.probe(job(tiny_onnx(), shapes={"images": [1, 3, 8]}))


def test_the_golden_input_is_used_when_it_fits(tiny_onnx: Callable[..., Path], tmp_path: Path) -> None:
    from edgec.probe.onnx_session import feeds_of, open_session

    session = open_session(tiny_onnx(), 1)
    golden = tmp_path / "golden.npz"
    np.savez(golden, images=np.full((1, 3, 16, 16), 0.5, np.float32))
    assert (feeds_of(session, {}, golden)["images"] == 0.5).all()
    np.savez(golden, images=np.full((1, 3, 8, 8), 0.5, np.float32))
    assert feeds_of(session, {}, golden)["images"].shape == (1, 3, 16, 16)
    free = open_session(tiny_onnx(image=(1, 3, "h", "w")), 1)
    assert feeds_of(free, {}, golden)["images"].shape == (1, 3, 8, 8)
    assert feeds_of(free, {"images": [1, 3, 4, 4]}, golden)["images"].shape == (1, 3, 4, 4)
    golden.write_bytes(b"PK\x03\x04 torn")
    assert feeds_of(session, {}, golden)["images"].std() > 0.1


def test_operators_add_up(tiny_onnx: Callable[..., Path]) -> None:
    answer: Any = local.probe(job(tiny_onnx(), what="operators"))
    assert "Conv" in answer["types"] or "FusedConv" in answer["types"]
    assert sum(row["share"] for row in answer["operators"]) == pytest.approx(1.0)
    assert sum(answer["types"].values()) == pytest.approx(answer["total_ms"], abs=1e-3)


def test_operators_take_the_median_over_runs() -> None:
    def event(name: str, kind: str, micro: float) -> dict[str, Any]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": micro, "args": {"op_name": kind}}

    trace = [event("a", "Conv", t) for t in (9000, 3000, 3000)] + [event("b", "Cast", 1000)] * 3
    trace += [
        {"cat": "Session", "name": "model_run", "dur": 1e9},
        {"cat": "Node", "name": "a_fence_before", "dur": 5},
    ]
    found = summarise(trace)
    assert found["operators"][0] == {"name": "a", "type": "Conv", "ms": 3.0, "share": 0.75}
    assert found["types"] == {"Conv": 3.0, "Cast": 1.0}


def test_missing_artifact(tmp_path: Path) -> None:
    for runtime in ("onnxruntime", "null"):
        with pytest.raises(StageError, match=r"gone\.onnx"):
            local.probe(job(tmp_path / "gone.onnx", runtime=runtime))


def test_truncated_artifact(tiny_onnx: Callable[..., Path]) -> None:
    path = tiny_onnx()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(StageError, match=r"cannot open it.*export it again"):
        local.probe(job(path))


def test_missing_runtime(
    tiny_onnx: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "site"
    fake.mkdir()
    (fake / "onnxruntime.py").write_text("raise ImportError('no such library')")
    monkeypatch.syspath_prepend(str(fake))
    with pytest.raises(Missing, match="pip install onnxruntime") as raised:
        local.probe(job(tiny_onnx()))
    assert raised.value.exit_code == 4


def test_a_killed_process_is_reported(
    tiny_onnx: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "site"
    fake.mkdir()
    (fake / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.syspath_prepend(str(fake))
    with pytest.raises(StageError, match=r"SIGKILL.*out of memory"):
        local.probe(job(tiny_onnx()))


def test_a_process_that_fails_shows_its_last_words(
    tiny_onnx: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "site"
    fake.mkdir()
    (fake / "onnxruntime.py").write_text("import sys\nprint('not json')\nsys.exit('very broken')")
    monkeypatch.syspath_prepend(str(fake))
    with pytest.raises(StageError, match=r"status 1: .*very broken"):
        local.probe(job(tiny_onnx()))


def test_a_hung_process_is_ended(tiny_onnx: Callable[..., Path]) -> None:
    endless = job(tiny_onnx(), runtime="null", min_seconds=600.0, max_seconds=600.0)
    with pytest.raises(StageError, match="no answer in 1 s"):
        local.probe(endless, deadline_s=1.0)


def test_a_copied_folder_runs_without_edgec(tiny_onnx: Callable[..., Path], tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "probe"
    shutil.copytree(local.PROBE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy.parent / "edgec.py").write_text("raise SystemExit('edgec must not be imported')")
    done = subprocess.run(
        [sys.executable, str(copy)], input=json.dumps(job(tiny_onnx())),
        capture_output=True, text=True, check=True, cwd=copy.parent,
        env={**os.environ, "PYTHONPATH": str(copy.parent)},
    )  # fmt: skip
    assert json.loads(done.stdout)["samples_ms"]


def test_it_runs_as_a_module(tiny_onnx: Callable[..., Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgec.probe"], input=json.dumps(job(tiny_onnx(), runtime="null")),
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert json.loads(done.stdout)["samples_ms"]


def test_measuring_stops_when_the_interval_is_narrow() -> None:
    def steady() -> None:
        sum(range(2000))

    early = measure(steady, warmup_seconds=0, min_seconds=0.05, max_seconds=5.0, interval=0.5)
    assert early["measured_seconds"] < 2.0
    lengths = cycle(
        range(1000, 3000, 7)
    )  # steady runs can take the same time to the nanosecond: an interval of 0

    def spread() -> None:
        sum(range(next(lengths)))

    full = measure(spread, warmup_seconds=0, min_seconds=0.01, max_seconds=0.3, interval=1e-9)
    assert full["measured_seconds"] >= 0.3
    assert full["warmup_runs"] == 0


def test_a_slow_call_is_still_run_three_times() -> None:
    import time

    calls: list[int] = []

    def slow() -> None:
        calls.append(1)
        time.sleep(0.03)

    found = measure(slow, warmup_seconds=0.01, min_seconds=0.001, max_seconds=0.01, interval=0.05)
    assert len(found["samples_ms"]) == 3
    assert len(calls) == 1 + found["warmup_runs"] + 3
    assert found["wall_cpu_ratio"] > 5  # it slept
    assert min(found["samples_ms"]) >= 30


def test_interval_width_covers_the_median() -> None:
    assert interval_width([10] * 50) == 0
    assert interval_width([10, 20, 30]) == pytest.approx(1.0)
    values = list(range(1000, 1101))
    assert 0 < interval_width(values) < interval_width(values[::10])


def test_peak_memory_is_that_of_this_program() -> None:
    peak = peak_rss_bytes()
    assert peak is not None and 5e6 < peak < 20e9


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin")
def test_the_fastest_cores_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards mix small cores, which come first, with large ones."""
    chosen: list[list[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: chosen.append(cores))
    monkeypatch.setattr(probe_measure, "fastest_khz", lambda core: 2_400_000 if core in (2, 4) else 1_800_000)
    assert [pin(1), pin(2), pin(3)] == [[2], [2, 4], [2, 4, 0]]
    assert chosen == [[2], [2, 4], [2, 4, 0]]


def test_a_file_whose_data_is_elsewhere_is_refused(tiny_onnx: Callable[..., Path], tmp_path: Path) -> None:
    model = onnx.load(str(tiny_onnx()))
    path = tmp_path / "within" / "model.onnx"
    path.parent.mkdir()
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    assert local.Local().probe(job(path))["samples_ms"]
    for tensor in (moved := onnx.load(str(path), load_external_data=False)).graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../w.bin" if entry.key == "location" else entry.value
    path.with_name("w.bin").rename(tmp_path / "w.bin")
    path.write_bytes(moved.SerializeToString())
    with pytest.raises(
        StageError, match=r"lie in '../w.bin', outside the artifact's folder; export it again"
    ):
        local.Local().probe(job(path))
    path.write_bytes(moved.SerializeToString()[:-100])
    with pytest.raises(StageError, match="only the beginning of one; export it again"):
        local.Local().probe(job(path))


def test_larger_batches_where_the_file_leaves_them_open(tiny_onnx: Callable[..., Path]) -> None:
    assert local.probe(job(tiny_onnx(image=("n", 3, 16, 16)), batch=4))["inputs"] == {
        "images": [4, 3, 16, 16]
    }
    with pytest.raises(StageError, match="it does not run on images"):
        local.probe(job(tiny_onnx(), batch=4))


def test_a_provider_that_this_build_lacks_is_reported(tiny_onnx: Callable[..., Path]) -> None:
    with pytest.raises(Missing, match=r"has no QNNExecutionProvider \(it has .*CPUExecutionProvider"):
        local.probe(job(tiny_onnx(), runtime="onnxruntime-qnn"))


def test_a_provider_that_gives_way_to_the_cpu_is_not_measured(
    tiny_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)

    class Session:
        def __init__(self, path: str, options: Any, providers: list[str]) -> None:
            self.providers = providers

        def get_providers(self) -> list[str]:
            return self.providers[1:] if falls_back else self.providers

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    falls_back = False
    assert open_session(tiny_onnx(), 1, provider="cuda").providers == names
    falls_back = True
    with pytest.raises(ProbeError, match="fell back to CPUExecutionProvider"):
        open_session(tiny_onnx(), 1, provider="cuda")


def test_an_input_that_the_graph_has_not(tiny_onnx: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match=r"the graph has no input image, only images \[1, 3, 16, 16\]"):
        local.probe(job(tiny_onnx(), shapes={"image": [1, 3, 16, 16]}))


def test_boards_with_python_3_9_can_run_it() -> None:
    for path in local.PROBE.glob("[!_]*.py"):
        text = path.read_text(encoding="utf-8")
        ast.parse(text, feature_version=(3, 9))  # no match statements
        assert "strict=" not in text, f"{path.name}: zip takes no strict before 3.10"
        assert "from __future__ import annotations" in text, path.name
