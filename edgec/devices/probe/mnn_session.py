"""MNN on the CPU. Imports MNN alone: its tools and console scripts install packages and contact a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from edgec.devices.probe.operators import repeat, table
else:  # run as a folder or a zip file, perhaps on a machine without edgec
    from operators import repeat, table  # pyright: ignore[reportMissingImports]


def open_model(path: Path, threads: int, package: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    MNN: Any = import_module("MNN")

    layout, kind = MNN.Tensor_DimensionType_Caffe, MNN.Halide_Type_Float
    interpreter = MNN.Interpreter(str(path))
    precision = "low" if package["precision"] == "fp16" else "high"
    session = interpreter.createSession({"numThread": threads, "backend": "CPU", "precision": precision})
    inputs = interpreter.getSessionInputAll(session)

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        changed = [name for name, value in feeds.items() if inputs[name].getShape() != value.shape]
        for name in changed:
            interpreter.resizeTensor(inputs[name], feeds[name].shape)
        if changed:
            interpreter.resizeSession(session)
        for name, value in feeds.items():
            held = np.ascontiguousarray(value, np.float32)
            inputs[name].copyFrom(MNN.Tensor(held.shape, kind, held, layout))
        interpreter.runSession(session)
        there = interpreter.getSessionOutputAll(session)
        return [_taken(there[name]) for name in package["outputs"]]

    def _taken(tensor: Any) -> Any:
        shape = tensor.getShape()
        host = MNN.Tensor(shape, kind, np.zeros(shape, np.float32), layout)
        tensor.copyToHostTensor(host)
        return np.array(host.getNumpyData()).reshape(shape)

    return run, str(MNN.version())


def operators(
    path: Path, threads: int, package: Mapping[str, Any], feeds: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Operators as they ran, timed between MNN's calls before and after each."""
    MNN: Any = import_module("MNN")

    layout, kind = MNN.Tensor_DimensionType_Caffe, MNN.Halide_Type_Float
    interpreter = MNN.Interpreter(str(path))
    precision = "low" if package["precision"] == "fp16" else "high"
    session = interpreter.createSession({"numThread": threads, "backend": "CPU", "precision": precision})
    inputs = interpreter.getSessionInputAll(session)
    for name, value in feeds.items():
        held = np.ascontiguousarray(value, np.float32)
        interpreter.resizeTensor(inputs[name], held.shape)
        interpreter.resizeSession(session)
        inputs[name].copyFrom(MNN.Tensor(held.shape, kind, held, layout))
    times: dict[str, list[float]] = {}
    types: dict[str, str] = {}
    began: dict[str, int] = {}

    def before(tensors: Any, operator: Any) -> bool:
        began[operator.getName()] = time.perf_counter_ns()
        return True

    def after(tensors: Any, operator: Any) -> bool:
        name = operator.getName()
        times.setdefault(name, []).append((time.perf_counter_ns() - began[name]) / 1e6)
        types[name] = operator.getType()
        return True

    interpreter.runSession(session)
    repeat(lambda: interpreter.runSessionWithCallBackInfo(session, before, after), seconds)
    return table(times, types)
