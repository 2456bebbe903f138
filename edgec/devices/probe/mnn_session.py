"""MNN on the CPU. Imports MNN alone: its tools and console scripts install packages and contact a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


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
