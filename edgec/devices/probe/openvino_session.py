"""OpenVINO on the CPU, one stream, computing in the precision that the file has (not in bf16, its default on some CPUs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def open_model(path: Path, threads: int, package: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    openvino: Any = import_module("openvino")

    core = openvino.Core()
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    request = compiled.create_infer_request()
    order = [compiled.output(name) for name in package["outputs"]]

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        found = request.infer(dict(feeds))
        return [np.array(found[output]) for output in order]

    return run, str(openvino.__version__)
