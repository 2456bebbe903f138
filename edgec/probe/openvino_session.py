"""OpenVINO on the CPU, one stream, computing in the precision that the file has (not in bf16, its default on some CPUs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from edgec.probe.operators import repeat, table
else:  # run as a folder or a zip file, perhaps on a machine without edgec
    from operators import repeat, table


def open_model(path: Path, threads: int, package: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    openvino: Any = import_module("openvino")
    compiled = _compiled(openvino, path, threads, {})
    request = compiled.create_infer_request()
    order = [compiled.output(name) for name in package["outputs"]]

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        results = request.infer(dict(feeds))
        return [np.array(results[output]) for output in order]

    return run, str(openvino.__version__)


def operators(
    path: Path, threads: int, package: Mapping[str, Any], feeds: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Layers as they ran; the type also tells the kernel and its precision. Fused and constant layers take no time."""
    openvino: Any = import_module("openvino")
    request = _compiled(openvino, path, threads, {"PERF_COUNT": True}).create_infer_request()
    request.infer(dict(feeds))
    times: dict[str, list[float]] = {}
    types: dict[str, str] = {}

    def run() -> None:
        request.infer(dict(feeds))
        for layer in request.get_profiling_info():
            ms = layer.real_time.total_seconds() * 1e3
            if ms > 0:
                times.setdefault(layer.node_name, []).append(ms)
                types[layer.node_name] = f"{layer.node_type} {layer.exec_type}".strip()

    repeat(run, seconds)
    return table(times, types)


def _compiled(openvino: Any, path: Path, threads: int, more: Mapping[str, Any]) -> Any:
    core = openvino.Core()
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False, **more,
    }  # fmt: skip
    return core.compile_model(core.read_model(str(path)), "CPU", settings)
