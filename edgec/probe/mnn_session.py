"""MNN on the CPU. Imports MNN alone: its tools and console scripts install packages and contact a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from edgec.probe.operators import repeat, table
else:  # run as a folder or a zip file, perhaps on a machine without edgec
    from operators import repeat, table


class MnnSession:
    """A file in a session of its own, whose input takes any size."""

    def __init__(self, path: Path, threads: int, package: Mapping[str, Any]) -> None:
        self.mnn: Any = import_module("MNN")
        self.kind, self.layout = self.mnn.Halide_Type_Float, self.mnn.Tensor_DimensionType_Caffe
        self.interpreter = self.mnn.Interpreter(str(path))
        precision = "low" if package["precision"] == "fp16" else "high"
        self.session = self.interpreter.createSession(
            {"numThread": threads, "backend": "CPU", "precision": precision}
        )
        self.inputs = self.interpreter.getSessionInputAll(self.session)

    def give(self, feeds: Mapping[str, Any]) -> None:
        """Put the inputs into the session."""
        changed = [name for name, value in feeds.items() if self.inputs[name].getShape() != value.shape]
        for name in changed:
            self.interpreter.resizeTensor(self.inputs[name], feeds[name].shape)
        if changed:
            self.interpreter.resizeSession(self.session)
        for name, value in feeds.items():
            held = np.ascontiguousarray(value, np.float32)
            self.inputs[name].copyFrom(self.mnn.Tensor(held.shape, self.kind, held, self.layout))

    def taken(self, tensor: Any) -> Any:
        """An output as an array."""
        shape = tensor.getShape()
        host = self.mnn.Tensor(shape, self.kind, np.zeros(shape, np.float32), self.layout)
        tensor.copyToHostTensor(host)
        return np.array(host.getNumpyData()).reshape(shape)


def open_model(path: Path, threads: int, package: Mapping[str, Any]) -> tuple[Callable[..., list[Any]], str]:
    opened = MnnSession(path, threads, package)

    def run(feeds: Mapping[str, Any]) -> list[Any]:
        opened.give(feeds)
        opened.interpreter.runSession(opened.session)
        outputs = opened.interpreter.getSessionOutputAll(opened.session)
        return [opened.taken(outputs[name]) for name in package["outputs"]]

    return run, str(opened.mnn.version())


def operators(
    path: Path, threads: int, package: Mapping[str, Any], feeds: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Operators as they ran, timed between MNN's calls before and after each."""
    opened = MnnSession(path, threads, package)
    opened.give(feeds)
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

    opened.interpreter.runSession(opened.session)
    repeat(lambda: opened.interpreter.runSessionWithCallBackInfo(opened.session, before, after), seconds)
    return table(times, types)
